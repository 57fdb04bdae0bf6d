{# The shared tables of the state schema: what is synced, by whom, how each run went, what was rejected. #}

{# Runs dbt's own statement for a new schema; not where it exists, because that would need a right nobody may have. #}
{% macro create_state_schema(schema) %}
  {%- set database = dbt_posthog_sync.target_database() -%}
  {%- if not adapter.check_schema_exists(database, schema) -%}
    {%- do adapter.create_schema(api.Relation.create(database=database, schema=schema)) -%}
  {%- endif -%}
{% endmacro %}

{% macro create_schema_version_table(schema) %}
  create table if not exists {{ dbt_posthog_sync.state_table(schema, 'schema_version') }} (
    version int not null, program {{ dbt_posthog_sync.type_text() }}, created_at {{ dbt_posthog_sync.type_moment() }}){{ dbt_posthog_sync.table_options() }}
{% endmacro %}

{% macro record_schema_version(schema, version, program) %}
  insert into {{ dbt_posthog_sync.state_table(schema, 'schema_version') }} (version, program, created_at)
  select {{ version }}, {{ dbt_posthog_sync.literal(program) }}, {{ dbt_posthog_sync.statement_time() }}{{ dbt_posthog_sync.one_row() }}
  where not exists (select 1 from {{ dbt_posthog_sync.state_table(schema, 'schema_version') }}
    where version >= {{ version }})
{% endmacro %}

{# What brings a state schema to a version from the one before it. Each statement can be repeated: two runs may upgrade
   at once. New columns are at the end, where a new table has them too. #}
{% macro upgrade_statements(schema, version) %}
  {%- set text = dbt_posthog_sync.type_text() -%}
  {%- set statements = {
    2: [
      'alter table ' ~ dbt_posthog_sync.state_table(schema, 'syncs') ~ ' add column if not exists uuid_name ' ~ text,
      'alter table ' ~ dbt_posthog_sync.state_table(schema, 'leases') ~ ' add column if not exists host ' ~ text,
      'alter table ' ~ dbt_posthog_sync.state_table(schema, 'sync_runs') ~ ' add column if not exists phases ' ~ text,
      dbt_posthog_sync.create_moved_rows_table(schema),
      dbt_posthog_sync.create_doubtful_rows_table(schema),
    ],
    3: [
      'alter table ' ~ dbt_posthog_sync.state_table(schema, 'doubtful_rows') ~ ' add column if not exists identity_hash ' ~ dbt_posthog_sync.type_hash(),
    ],
    4: [
      'alter table ' ~ dbt_posthog_sync.state_table(schema, 'leases') ~ ' add column if not exists changes_table ' ~ text,
      dbt_posthog_sync.create_mirrors_table(schema),
      dbt_posthog_sync.create_erased_persons_table(schema),
    ],
    5: [
      dbt_posthog_sync.create_build_syncs_table(schema),
      dbt_posthog_sync.create_build_stagings_table(schema),
    ],
  } -%}
  {{- return(statements[version]) -}}
{% endmacro %}
{# Staged rows of runs that did not end get the columns that came with a version. #}
{% macro read_staged_tables(schema) %}
  select changes_table from {{ dbt_posthog_sync.state_table(schema, 'syncs') }} where changes_table is not null
{% endmacro %}
{% macro upgrade_staged_table(schema, name, number) %}
  alter table {{ dbt_posthog_sync.state_table(schema, name) }} add column if not exists
    {{ ['in_doubt boolean', 'doubt_identity ' ~ dbt_posthog_sync.type_hash()][number] }}
{% endmacro %}
{% macro upgrade_statement(schema, version, number) %}{{ return(dbt_posthog_sync.upgrade_statements(schema, version)[number]) }}{% endmacro %}
{% macro upgrade_length(version) %}{{ return(dbt_posthog_sync.upgrade_statements('none', version) | length) }}{% endmacro %}

{% macro read_schema_version(schema) %}
  select max(version) from {{ dbt_posthog_sync.state_table(schema, 'schema_version') }}
{% endmacro %}

{% macro create_syncs_table(schema) %}
  {%- set text = dbt_posthog_sync.type_text() -%}
  create table if not exists {{ dbt_posthog_sync.state_table(schema, 'syncs') }} (
    sync_id {{ text }}{{ dbt_posthog_sync.primary_key() }}, project {{ text }}, name {{ text }}, model {{ text }}, relation {{ text }},
    object {{ text }}, destination {{ text }}, key_type {{ text }}, mapping {{ text }}, fingerprint {{ text }},
    hash_name {{ text }}, hash_canary {{ text }}, base_table {{ text }}, log_table {{ text }},
    changes_table {{ text }}, base_rows bigint, live_keys bigint, model_rows bigint, is_settled boolean,
    baseline_at {{ dbt_posthog_sync.type_moment() }}, window_start {{ text }},
    created_at {{ dbt_posthog_sync.type_moment() }}, updated_at {{ dbt_posthog_sync.type_moment() }},
    uuid_name {{ text }}){{ dbt_posthog_sync.table_options() }}
{% endmacro %}

{% macro create_leases_table(schema) %}
  {%- set text = dbt_posthog_sync.type_text() -%}
  create table if not exists {{ dbt_posthog_sync.state_table(schema, 'leases') }} (
    sync_id {{ text }}{{ dbt_posthog_sync.primary_key() }}, epoch bigint not null, run_id {{ text }}, owner {{ text }}, is_held boolean,
    taken_at {{ dbt_posthog_sync.type_moment() }}, heartbeat_at {{ dbt_posthog_sync.type_moment() }}, host {{ text }},
    changes_table {{ text }}){{ dbt_posthog_sync.table_options() }}
{% endmacro %}

{% macro create_rejected_rows_table(schema) %}
  {%- set text = dbt_posthog_sync.type_text() -%}
  create table if not exists {{ dbt_posthog_sync.state_table(schema, 'rejected_rows') }} (
    sync_id {{ text }}, sync_name {{ text }}, sync_key {{ text }}, row_hash {{ dbt_posthog_sync.type_hash() }},
    reason {{ text }}, try_again {{ text }}, first_seen_at {{ dbt_posthog_sync.type_moment() }},
    last_seen_at {{ dbt_posthog_sync.type_moment() }}, first_run_id {{ text }}, last_run_id {{ text }},
    resolved_at {{ dbt_posthog_sync.type_moment() }}, row_count bigint){{ dbt_posthog_sync.table_options() }}
{% endmacro %}

{% macro create_sync_runs_table(schema) %}
  {%- set text = dbt_posthog_sync.type_text() -%}
  create table if not exists {{ dbt_posthog_sync.state_table(schema, 'sync_runs') }} (
    run_id {{ text }}, sync_id {{ text }}, sync_name {{ text }}, status {{ text }}, message {{ text }},
    started_at {{ dbt_posthog_sync.type_moment() }}, ended_at {{ dbt_posthog_sync.type_moment() }},
    dbt_invocation_id {{ text }}, program_version {{ text }}, counts {{ text }},
    delivered bigint, rejected bigint, requests bigint, bytes bigint, seconds {{ dbt_posthog_sync.type_double() }}, phases {{ text }}){{ dbt_posthog_sync.table_options() }}
{% endmacro %}

{# Keys of rows that were another at delivery than at staging, in the last complete run of their sync. #}
{% macro create_moved_rows_table(schema) %}
  {%- set text = dbt_posthog_sync.type_text() -%}
  create table if not exists {{ dbt_posthog_sync.state_table(schema, 'moved_rows') }} (sync_id {{ text }}, sync_key {{ text }}){{ dbt_posthog_sync.table_options() }}
{% endmacro %}

{# Keys of which PostHog may have another content than the snapshot says: a run that lost its lease may have sent it
   after its successor, or the row left the model while it was in doubt. #}
{% macro create_doubtful_rows_table(schema) %}
  {%- set text = dbt_posthog_sync.type_text() -%}
  create table if not exists {{ dbt_posthog_sync.state_table(schema, 'doubtful_rows') }} (
    sync_id {{ text }}, sync_key {{ text }}, identity_hash {{ dbt_posthog_sync.type_hash() }}){{ dbt_posthog_sync.table_options() }}
{% endmacro %}

{# Copies of what PostHog has of its persons; the newest that is loaded is in force. #}
{% macro create_mirrors_table(schema) %}
  {%- set text = dbt_posthog_sync.type_text() -%}
  create table if not exists {{ dbt_posthog_sync.state_table(schema, 'mirrors') }} (
    table_name {{ text }}, kind {{ text }}, destination {{ text }}, begun_at {{ dbt_posthog_sync.type_moment() }},
    loaded_at {{ dbt_posthog_sync.type_moment() }}, row_count bigint){{ dbt_posthog_sync.table_options() }}
{% endmacro %}

{# Identities of persons that were deleted on request: distinct_ids and e-mail addresses to which nothing is sent. #}
{% macro create_erased_persons_table(schema) %}
  {%- set text = dbt_posthog_sync.type_text() -%}
  create table if not exists {{ dbt_posthog_sync.state_table(schema, 'erased_persons') }} (
    kind {{ text }}, identity {{ text }}, sync_id {{ text }}, run_id {{ text }}, erased_at {{ dbt_posthog_sync.type_moment() }}){{ dbt_posthog_sync.table_options() }}
{% endmacro %}

{# A shard remembers its own staged rows, beside its lease. #}
{% macro read_sync(schema, sync_id, lease_id) %}
  select destination, key_type, fingerprint, hash_name, hash_canary, base_table, log_table,
    {% if lease_id != sync_id -%}
    (select changes_table from {{ dbt_posthog_sync.state_table(schema, 'leases') }} where sync_id = {{ dbt_posthog_sync.literal(lease_id) }}),
    {%- else %}changes_table,{% endif %}
    base_rows, live_keys, model_rows, is_settled, {{ dbt_posthog_sync.as_text('baseline_at') }}, window_start,
    mapping, name, relation, coalesce(uuid_name, name),
    exists (select 1 from {{ dbt_posthog_sync.state_table(schema, 'doubtful_rows') }} where sync_id = {{ dbt_posthog_sync.literal(sync_id) }})
  from {{ dbt_posthog_sync.state_table(schema, 'syncs') }}
  where sync_id = {{ dbt_posthog_sync.literal(sync_id) }}
{% endmacro %}

{# Other syncs that this one may have been before: over the same relation, or, since a renamed model has another one,
   with the very same mapping. #}
{% macro read_like_syncs(schema, project, relation, fingerprint, sync_id, is_loops) %}
  {%- set is_same = 'relation = ' ~ dbt_posthog_sync.literal(relation) -%}
  select name, case when {{ is_same }} then 1 else 0 end as reads_the_same from {{ dbt_posthog_sync.state_table(schema, 'syncs') }}
  where project = {{ dbt_posthog_sync.literal(project) }} and sync_id <> {{ dbt_posthog_sync.literal(sync_id) }}
    and ({{ is_same }} or fingerprint = {{ dbt_posthog_sync.literal(fingerprint) }})
    and object {{ 'in' if is_loops else 'not in' }} ('contacts', 'events')
  order by reads_the_same desc, name
{% endmacro %}

{% macro insert_sync(sync) %}
  {%- set lit = dbt_posthog_sync.optional_literal -%}
  insert into {{ dbt_posthog_sync.state_table(sync.schema, 'syncs') }}
    (sync_id, project, name, model, relation, object, destination, key_type, mapping, fingerprint, hash_name,
     hash_canary, base_table, log_table, base_rows, live_keys, is_settled, created_at, updated_at, uuid_name)
  select {{ lit(sync.id) }}, {{ lit(sync.project) }}, {{ lit(sync.name) }}, {{ lit(sync.model) }},
    {{ lit(sync.relation_name) }}, {{ lit(sync.object) }}, {{ lit(sync.destination) }},
    {{ lit(dbt_posthog_sync.type_key(sync.key.type)) }}, {{ lit(sync.mapping) }}, {{ lit(sync.fingerprint) }},
    {{ lit(dbt_posthog_sync.hash_name()) }}, {{ dbt_posthog_sync.hash_canary() }},
    {{ lit(sync.tables.base.name) }}, {{ lit(sync.tables.log.name) }}, 0, 0, true,
    {{ dbt_posthog_sync.statement_time() }}, {{ dbt_posthog_sync.statement_time() }}, {{ lit(sync.name) }}
{% endmacro %}

{# What the program would store for this sync today: key type, hash function, canary. #}
{% macro current_functions(sync) %}
  select {{ dbt_posthog_sync.literal(dbt_posthog_sync.type_key(sync.key.type)) }},
    {{ dbt_posthog_sync.literal(dbt_posthog_sync.hash_name()) }}, {{ dbt_posthog_sync.hash_canary() }}
{% endmacro %}

{# `values` maps column names to values; texts and numbers become literals. Only the run that holds the lease writes. #}
{% macro update_sync(schema, sync_id, lease_id, run_id, epoch, values) %}
  update {{ dbt_posthog_sync.state_table(schema, 'syncs') }} set
    {%- for column, value in values.items() %}
    {{ column }} = {% if value is sameas true or value is sameas false %}{{ value | string | lower }}
      {%- else %}{{ dbt_posthog_sync.optional_literal(value) }}{% endif %},
    {%- endfor %}
    updated_at = {{ dbt_posthog_sync.statement_time() }}
  where sync_id = {{ dbt_posthog_sync.literal(sync_id) }} and exists (
    select 1 from {{ dbt_posthog_sync.state_table(schema, 'leases') }}
    where {{ dbt_posthog_sync.lease_is_ours(lease_id, run_id, epoch) }})
{% endmacro %}

{# Which staged rows belong to the run; null when there are none. #}
{% macro keep_staged_name(schema, lease_id, run_id, epoch, name) %}
  update {{ dbt_posthog_sync.state_table(schema, 'leases') }} set changes_table = {{ dbt_posthog_sync.optional_literal(name) }}
  where {{ dbt_posthog_sync.lease_is_ours(lease_id, run_id, epoch) }}
{% endmacro %}

{% macro mark_baseline(sync) %}
  update {{ dbt_posthog_sync.state_table(sync.schema, 'syncs') }} set baseline_at = {{ dbt_posthog_sync.statement_time() }}
  where sync_id = {{ dbt_posthog_sync.literal(sync.id) }} and {{ dbt_posthog_sync.lease_is_held(sync) }}
{% endmacro %}

{# --- adoption: a renamed sync goes on with the state it had under its old name --- #}

{% macro read_sync_id(schema, project, name) %}
  select sync_id from {{ dbt_posthog_sync.state_table(schema, 'syncs') }}
  where project = {{ dbt_posthog_sync.literal(project) }} and name = {{ dbt_posthog_sync.literal(name) }}
{% endmacro %}

{% macro forget_lease(schema, sync_id) %}
  delete from {{ dbt_posthog_sync.state_table(schema, 'leases') }} where sync_id = {{ dbt_posthog_sync.literal(sync_id) }}
{% endmacro %}

{# Give what one of the shared tables knows of a sync to its new name; `uuid_name` keeps the old one in uuids. #}
{% macro adopt_sync(schema, table, old_id, sync_id, name) %}
  {%- set column = {'syncs': 'name', 'rejected_rows': 'sync_name', 'sync_runs': 'sync_name'}.get(table) -%}
  update {{ dbt_posthog_sync.state_table(schema, table) }} set sync_id = {{ dbt_posthog_sync.literal(sync_id) }}
    {%- if table == 'syncs' %}, uuid_name = coalesce(uuid_name, name){% endif %}
    {%- if column %}, {{ column }} = {{ dbt_posthog_sync.literal(name) }}{% endif %}
  where sync_id = {{ dbt_posthog_sync.literal(old_id) }}
{% endmacro %}

{# --- the lease: one run at a time, and an epoch that every confirm must still hold --- #}

{# Two first runs at once may both insert where the warehouse keeps no key unique; `Lease` looks at all rows then. #}
{% macro insert_lease(schema, sync_id) %}
  insert into {{ dbt_posthog_sync.state_table(schema, 'leases') }} (sync_id, epoch, is_held)
  select {{ dbt_posthog_sync.literal(sync_id) }}, 0, false{{ dbt_posthog_sync.one_row() }}
  where not exists (select 1 from {{ dbt_posthog_sync.state_table(schema, 'leases') }}
    where sync_id = {{ dbt_posthog_sync.literal(sync_id) }})
{% endmacro %}

{% macro take_lease(schema, sync_id, run_id, owner, host, seconds, steal) %}
  update {{ dbt_posthog_sync.state_table(schema, 'leases') }} set
    epoch = epoch + 1, run_id = {{ dbt_posthog_sync.literal(run_id) }}, owner = {{ dbt_posthog_sync.literal(owner) }},
    host = {{ dbt_posthog_sync.literal(host) }},
    is_held = true, taken_at = {{ dbt_posthog_sync.clock() }}, heartbeat_at = {{ dbt_posthog_sync.clock() }}
  where sync_id = {{ dbt_posthog_sync.literal(sync_id) }}
    {% if not steal %}and (not is_held or {{ dbt_posthog_sync.lease_is_dead(seconds) }}){% endif %}
{% endmacro %}

{# True for a lease whose owner cannot be alive any more. #}
{% macro lease_is_dead(seconds) %}{{ return(adapter.dispatch('lease_is_dead', 'dbt_posthog_sync')(seconds)) }}{% endmacro %}
{% macro default__lease_is_dead(seconds) %}
  heartbeat_at < {{ dbt_posthog_sync.shifted(dbt_posthog_sync.clock(), '-', seconds, 'second') }}
{% endmacro %}

{# A moment that lies so many units later (`+`) or earlier (`-`). #}
{% macro shifted(moment, direction, number, unit) %}
  {{- return(adapter.dispatch('shifted', 'dbt_posthog_sync')(moment, direction, number, unit)) -}}
{% endmacro %}
{% macro default__shifted(moment, direction, number, unit) %}
  {{- return(moment ~ ' ' ~ direction ~ " interval '" ~ number ~ "' " ~ unit) -}}
{% endmacro %}

{# Whole seconds from a moment until now. #}
{% macro seconds_since(moment) %}{{ return(adapter.dispatch('seconds_since', 'dbt_posthog_sync')(moment)) }}{% endmacro %}
{% macro default__seconds_since(moment) %}
  cast(extract(epoch from ({{ dbt_posthog_sync.clock() }} - {{ moment }})) as bigint)
{%- endmacro %}

{# When the statement began, or the transaction that it is in. #}
{% macro statement_time() %}{{ return(adapter.dispatch('statement_time', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__statement_time() %}{{ return('current_timestamp') }}{% endmacro %}

{# The warehouse's clock at this very statement. #}
{% macro clock() %}{{ return(adapter.dispatch('clock', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__clock() %}{{ return(dbt_posthog_sync.statement_time()) }}{% endmacro %}

{# --- shards: several runs at a time, each on its part of the rows --- #}

{# Counts the sync's epoch up, which keeps its row until the commit: nobody else begins in between. Nothing happens while
   a run of the whole sync holds it. #}
{% macro count_epoch(schema, sync_id, seconds) %}
  update {{ dbt_posthog_sync.state_table(schema, 'leases') }} set epoch = epoch + 1
  where sync_id = {{ dbt_posthog_sync.literal(sync_id) }} and (not is_held or {{ dbt_posthog_sync.lease_is_dead(seconds) }})
{% endmacro %}

{% macro take_shard(schema, sync_id, lease_id, run_id, owner, host, seconds, steal) %}
  update {{ dbt_posthog_sync.state_table(schema, 'leases') }} set
    epoch = (select e.epoch from {{ dbt_posthog_sync.state_table(schema, 'leases') }} e where e.sync_id = {{ dbt_posthog_sync.literal(sync_id) }}),
    run_id = {{ dbt_posthog_sync.literal(run_id) }}, owner = {{ dbt_posthog_sync.literal(owner) }}, host = {{ dbt_posthog_sync.literal(host) }},
    is_held = true, taken_at = {{ dbt_posthog_sync.clock() }}, heartbeat_at = {{ dbt_posthog_sync.clock() }}
  where sync_id = {{ dbt_posthog_sync.literal(lease_id) }}
    {% if not steal %}and (not is_held or {{ dbt_posthog_sync.lease_is_dead(seconds) }}){% endif %}
{% endmacro %}

{# Shards of a sync: name, whether its run is alive, whether it left rows behind. #}
{% macro read_shards(schema, sync_id, seconds) %}
  select sync_id, is_held and not ({{ dbt_posthog_sync.lease_is_dead(seconds) }}), changes_table is not null
  from {{ dbt_posthog_sync.state_table(schema, 'leases') }}
  where substr(sync_id, 1, {{ sync_id | length + 1 }}) = {{ dbt_posthog_sync.literal(sync_id ~ '/') }}
  order by sync_id
{% endmacro %}

{# True for rows of this run's shard; rows without a key belong to the first. #}
{% macro in_shard(sync, key_text) %}
  {%- if not sync.shard -%}{{- return('true') -}}{%- endif -%}
  {{- return('coalesce(' ~ dbt_posthog_sync.part_of(key_text, sync.shard.of) ~ ', 0) = ' ~ (sync.shard.number - 1)) -}}
{% endmacro %}
{% macro part_of(expression, parts) %}{{ return(adapter.dispatch('part_of', 'dbt_posthog_sync')(expression, parts)) }}{% endmacro %}

{% macro read_lease(schema, sync_id, seconds) %}
  select epoch, run_id, owner, host, is_held, is_held and not ({{ dbt_posthog_sync.lease_is_dead(seconds) }}),
    {{ dbt_posthog_sync.seconds_since('taken_at') }}, {{ dbt_posthog_sync.seconds_since('heartbeat_at') }}
  from {{ dbt_posthog_sync.state_table(schema, 'leases') }} where sync_id = {{ dbt_posthog_sync.literal(sync_id) }}
{% endmacro %}

{% macro beat_lease(schema, sync_id, run_id, epoch) %}
  update {{ dbt_posthog_sync.state_table(schema, 'leases') }} set heartbeat_at = {{ dbt_posthog_sync.clock() }}
  where {{ dbt_posthog_sync.lease_is_ours(sync_id, run_id, epoch) }}
{% endmacro %}

{% macro release_lease(schema, sync_id, run_id, epoch) %}
  update {{ dbt_posthog_sync.state_table(schema, 'leases') }} set is_held = false
  where {{ dbt_posthog_sync.lease_is_ours(sync_id, run_id, epoch) }}
{% endmacro %}

{% macro lease_is_ours(sync_id, run_id, epoch) %}
  sync_id = {{ dbt_posthog_sync.literal(sync_id) }} and run_id = {{ dbt_posthog_sync.literal(run_id) }}
  and epoch = {{ epoch }} and is_held
{%- endmacro %}

{# The condition that every write of a run carries, so that a run that lost its lease writes nothing. #}
{% macro lease_is_held(sync) %}
  exists (select 1 from {{ dbt_posthog_sync.state_table(sync.schema, 'leases') }} l
    where l.sync_id = {{ dbt_posthog_sync.literal(sync.lease_id) }}
      and l.run_id = {{ dbt_posthog_sync.literal(sync.run_id) }} and l.epoch = {{ sync.epoch }} and l.is_held)
{%- endmacro %}

{# --- sync runs --- #}

{% macro insert_sync_run(schema, run) %}
  {%- set lit = dbt_posthog_sync.optional_literal -%}
  insert into {{ dbt_posthog_sync.state_table(schema, 'sync_runs') }}
    (run_id, sync_id, sync_name, status, started_at, dbt_invocation_id, program_version)
  select {{ lit(run.run_id) }}, {{ lit(run.sync_id) }}, {{ lit(run.sync_name) }}, 'running', {{ dbt_posthog_sync.clock() }},
    {{ lit(run.dbt_invocation_id) }}, {{ lit(run.program_version) }}
{% endmacro %}

{# A run that holds the lease knows that earlier ones are dead: they never came to say how they ended. #}
{% macro end_abandoned_runs(schema, sync_id, run_id) %}
  update {{ dbt_posthog_sync.state_table(schema, 'sync_runs') }} set status = 'interrupted',
    message = 'It ended without a word: the process was killed, or the warehouse went away.', ended_at = {{ dbt_posthog_sync.clock() }}
  where sync_id = {{ dbt_posthog_sync.literal(sync_id) }} and status = 'running' and run_id <> {{ dbt_posthog_sync.literal(run_id) }}
{% endmacro %}

{% macro end_sync_run(schema, run) %}
  {%- set lit = dbt_posthog_sync.optional_literal -%}
  update {{ dbt_posthog_sync.state_table(schema, 'sync_runs') }} set
    status = {{ lit(run.status) }}, message = {{ lit(run.message) }}, ended_at = {{ dbt_posthog_sync.clock() }},
    counts = {{ lit(run.counts) }}, delivered = {{ run.delivered }}, rejected = {{ run.rejected }},
    requests = {{ run.requests }}, bytes = {{ run.bytes }}, seconds = {{ run.seconds }}, phases = {{ lit(run.phases) }}
  where run_id = {{ lit(run.run_id) }} and sync_id = {{ lit(run.sync_id) }}
{% endmacro %}

{% macro read_sync_runs(schema, most, delivered=false) %}
  select run_id, sync_name, status, message, {{ dbt_posthog_sync.as_text('started_at') }},
    {{ dbt_posthog_sync.as_text('ended_at') }}, delivered, rejected, requests, bytes, seconds, program_version,
    dbt_invocation_id, counts, phases
  from {{ dbt_posthog_sync.state_table(schema, 'sync_runs') }} r
  {%- if delivered %}
  where (delivered > 0 or delivered is null)
    and not exists (select 1 from {{ dbt_posthog_sync.state_table(schema, 'syncs') }} s where s.sync_id = r.sync_id
                    and not ({{ dbt_posthog_sync.sends_messages() }} and s.object not in ('contacts', 'events')))
  {%- endif %}
  order by started_at desc, sync_name limit {{ most }}
{% endmacro %}

{# What the syncs of one invocation sent; what it delivered of kept builds are runs of their own, with a number behind its id. #}
{% macro read_dispatch(schema, run_id) %}
  select s.object, r.status, r.delivered, {{ dbt_posthog_sync.seconds_since('r.started_at') }}
  from {{ dbt_posthog_sync.state_table(schema, 'sync_runs') }} r
  left join {{ dbt_posthog_sync.state_table(schema, 'syncs') }} s on s.sync_id = r.sync_id
  where (r.run_id = {{ dbt_posthog_sync.literal(run_id) }} or substr(r.run_id, 1, {{ run_id | length + 1 }}) = {{ dbt_posthog_sync.literal(run_id ~ '.') }})
    and (s.sync_id is null or {{ dbt_posthog_sync.sends_messages() }})
{% endmacro %}
{# True for a sync `s` that sends messages, and does not delete persons. #}
{% macro sends_messages() %}(s.mapping is null or s.mapping not like '%"behavior": "delete"%'){% endmacro %}

{% macro read_all_syncs(schema) %}
  select s.sync_id, s.name, s.model, s.object, s.live_keys, {{ dbt_posthog_sync.as_text('s.updated_at') }},
    l.is_held, l.owner, l.host, {{ dbt_posthog_sync.as_text('l.taken_at') }},
    {{ dbt_posthog_sync.as_text('l.heartbeat_at') }}
  from {{ dbt_posthog_sync.state_table(schema, 'syncs') }} s
  left join {{ dbt_posthog_sync.state_table(schema, 'leases') }} l on l.sync_id = s.sync_id
  order by s.name
{% endmacro %}
