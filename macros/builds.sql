{# What builds stage: the tables of the post-hook, which the command line makes, and the way of the rows into a run. #}

{# Syncs whose model has the post-hook, with what it needs to know of each. #}
{% macro create_build_syncs_table(schema) %}
  {%- set text = dbt_posthog_sync.type_text() -%}
  create table if not exists {{ dbt_posthog_sync.state_table(schema, 'build_syncs') }} (
    sync_id {{ text }}, model {{ text }}, arguments {{ text }}, digest {{ text }}, known_columns {{ text }}, targets {{ text }},
    program {{ text }}, rows_table {{ text }}, keeps_every boolean, stored_at {{ dbt_posthog_sync.type_moment() }})
{% endmacro %}

{# One row for each staging by a build; its rows are in `rows_table`. Counts are of the diff. #}
{% macro create_build_stagings_table(schema) %}
  {%- set text = dbt_posthog_sync.type_text() -%}
  create table if not exists {{ dbt_posthog_sync.state_table(schema, 'build_stagings') }} (
    staging_id {{ text }}, sync_id {{ text }}, invocation_id {{ text }}, staged_at {{ dbt_posthog_sync.type_moment() }}, epoch bigint,
    digest {{ text }}, keeps_every boolean, relation_identity {{ text }}, rows_table {{ text }},
    unchanged bigint, added bigint, changed bigint, removed bigint, model_rows bigint,
    window_start {{ text }}, next_window_start {{ text }})
{% endmacro %}

{% macro create_built_table(sync, name) %}
  create table if not exists {{ dbt_posthog_sync.state_table(sync.schema, name) }} (
    staging_id {{ dbt_posthog_sync.type_text() }}, sync_key {{ dbt_posthog_sync.type_key(sync.key.type) }},
    row_hash {{ dbt_posthog_sync.type_hash() }}, identity_hash {{ dbt_posthog_sync.type_hash() }},
    row_moment {{ dbt_posthog_sync.type_moment() }}, kind int, staged_at {{ dbt_posthog_sync.type_moment() }},
    reason {{ dbt_posthog_sync.type_text() }}, distinct_id {{ dbt_posthog_sync.type_text() }}, lane bigint, message {{ dbt_posthog_sync.type_text() }})
    {{- dbt_posthog_sync.table_options() }}
{% endmacro %}

{# --- for the hook --- #}

{# The lease of a shard is called by the sixteen digits of the sync's id and the shard. #}
{% macro read_build_syncs(schema, model) %}
  {%- set table = dbt_posthog_sync.state_table %}
  select h.sync_id as sync_id, s.name as name, h.model as model, h.arguments as arguments, h.digest as digest,
    h.known_columns as known_columns, h.targets as targets, h.program as program, h.rows_table as rows_table,
    h.keeps_every as keeps_every, s.relation as relation, s.base_table as base_table, s.log_table as log_table,
    s.changes_table as changes_table, s.window_start as window_start, s.is_settled as is_settled, s.live_keys as live_keys,
    s.hash_canary as canary, {{ dbt_posthog_sync.as_text(dbt_posthog_sync.hash_canary()) }} as current_canary,
    l.epoch as epoch, l.is_held as is_held,
    exists (select 1 from {{ table(schema, 'leases') }} k where substr(k.sync_id, 1, 16) = h.sync_id and length(k.sync_id) > 16
      and (k.is_held or k.changes_table is not null)) as has_shards,
    exists (select 1 from {{ table(schema, 'rejected_rows') }} r where r.sync_id = h.sync_id and r.resolved_at is null) as has_rejects,
    exists (select 1 from {{ table(schema, 'doubtful_rows') }} d where d.sync_id = h.sync_id) as has_doubtful,
    exists (select 1 from {{ table(schema, 'erased_persons') }}) as has_erased,
    (select count(*) from {{ table(schema, 'build_stagings') }} b where b.sync_id = h.sync_id) as builds
  from {{ table(schema, 'build_syncs') }} h
  join {{ table(schema, 'syncs') }} s on s.sync_id = h.sync_id
  left join {{ table(schema, 'leases') }} l on l.sync_id = h.sync_id
  where h.model = {{ dbt_posthog_sync.literal(model) }} order by h.sync_id
{% endmacro %}

{# The log as it will be when the builds that wait are delivered: what this build is compared with. #}
{% macro log_with_builds(sync) %}
  {{ dbt_posthog_sync.create_sync_table(sync, 'pending') }} as
  select sync_key, row_hash, identity_hash, row_moment, epoch, origin from {{ dbt_posthog_sync.sync_table(sync, 'real_log') }}
  union all
  select b.sync_key, b.row_hash, b.identity_hash, b.row_moment,
    cast(1000000000000 + t.number as bigint) as epoch, cast({{ dbt_posthog_sync.origin('delivered') }} as smallint) as origin
  from {{ dbt_posthog_sync.sync_table(sync, 'built') }} b
  join (select staging_id, row_number() over (order by staged_at, staging_id) as number
        from {{ dbt_posthog_sync.state_table(sync.schema, 'build_stagings') }} where sync_id = {{ dbt_posthog_sync.literal(sync.id) }}) t
    on t.staging_id = b.staging_id
  where b.reason is null
{% endmacro %}

{# Rows that are new or changed, of these the ones without a key, and rows whose key is known; as one text. #}
{% macro read_diff_of_build(sync) %}
  {%- set of_kind = 'kind = ' -%}
  {%- set text = dbt_posthog_sync.as_text -%}
  select {{ text('coalesce(sum(case when kind <> ' ~ dbt_posthog_sync.kind('unchanged') ~ ' then row_count else 0 end), 0)') }} || ' '
    || {{ text('coalesce(sum(case when kind <> ' ~ dbt_posthog_sync.kind('unchanged') ~ ' and sync_key is null then row_count else 0 end), 0)') }} || ' '
    || {{ text('coalesce(sum(case when kind <> ' ~ dbt_posthog_sync.kind('added') ~ ' then row_count else 0 end), 0)') }}
  from {{ dbt_posthog_sync.sync_table(sync, 'diff') }}
{% endmacro %}

{# Keys and hashes of the staged rows; the run that delivers them makes the messages. #}
{% macro keep_keys(sync) %}
  insert into {{ dbt_posthog_sync.sync_table(sync, 'built') }}
    (staging_id, sync_key, row_hash, identity_hash, row_moment, kind, staged_at, reason)
  select {{ dbt_posthog_sync.literal(sync.staging_id) }}, sync_key, row_hash, identity_hash, row_moment, kind, staged_at, reason
  from {{ dbt_posthog_sync.sync_table(sync, 'changes') }}
{% endmacro %}

{# The same with the messages, for who wants every state a row was in (`keep: every`). #}
{% macro keep_rows(sync) %}
  insert into {{ dbt_posthog_sync.sync_table(sync, 'built') }}
    (staging_id, sync_key, row_hash, identity_hash, row_moment, kind, staged_at, reason, distinct_id, lane, message)
  select {{ dbt_posthog_sync.literal(sync.staging_id) }}, c.sync_key, c.row_hash, c.identity_hash, c.row_moment, c.kind, c.staged_at, c.reason,
    {{ dbt_posthog_sync.distinct_id_text(sync) if sync.object != 'group' else 'null' }}, s.lane, s.message
  from {{ dbt_posthog_sync.sync_table(sync, 'changes') }} c
  left join {{ sync.relation }} m on c.reason is null and {{ dbt_posthog_sync.key_expression(sync) }} = c.sync_key
  left join ({{ dbt_posthog_sync.message_stream(sync) }}) s on s.position = c.position
{% endmacro %}

{% macro keep_removed(sync) %}
  insert into {{ dbt_posthog_sync.sync_table(sync, 'built') }} (staging_id, sync_key, row_hash, identity_hash, row_moment, kind)
  select {{ dbt_posthog_sync.literal(sync.staging_id) }}, sync_key, row_hash, identity_hash, row_moment, {{ dbt_posthog_sync.kind('removed') }}
  from {{ dbt_posthog_sync.sync_table(sync, 'removed') }}
{% endmacro %}

{% macro insert_build(sync) %}
  {%- set text = dbt_posthog_sync.optional_literal -%}
  {%- set rows = "coalesce((select sum(row_count) from " ~ dbt_posthog_sync.sync_table(sync, 'diff') ~ " where kind = " -%}
  insert into {{ dbt_posthog_sync.state_table(sync.schema, 'build_stagings') }}
    (staging_id, sync_id, invocation_id, staged_at, epoch, digest, keeps_every, relation_identity, rows_table,
     unchanged, added, changed, removed, model_rows, window_start, next_window_start)
  select {{ text(sync.staging_id) }}, {{ text(sync.id) }}, {{ text(invocation_id) }}, {{ dbt_posthog_sync.clock() }}, {{ sync.epoch }},
    {{ text(sync.digest) }}, {{ 'true' if sync.keeps_every else 'false' }}, {{ dbt_posthog_sync.relation_identity(sync.relation_name) }},
    {{ text(sync.tables.built.name) }},
    {{ rows }}{{ dbt_posthog_sync.kind('unchanged') }}), 0), {{ rows }}{{ dbt_posthog_sync.kind('added') }}), 0), {{ rows }}{{ dbt_posthog_sync.kind('changed') }}), 0),
    {{ '(' ~ dbt_posthog_sync.count_removed(sync) ~ ')' if sync.may_have_removed else '0' }},
    {{ '(' ~ dbt_posthog_sync.count_model(sync) ~ ')' if sync.window_start else 'null' }},
    {{ text(sync.window_start) }}, {{ '(' ~ dbt_posthog_sync.read_window_start(sync) ~ ')' if sync.cursor else 'null' }}
{% endmacro %}

{% macro count_built(sync) %}
  select {{ dbt_posthog_sync.as_text('count(*)') }} from {{ dbt_posthog_sync.sync_table(sync, 'built') }} where staging_id = {{ dbt_posthog_sync.literal(sync.staging_id) }}
{% endmacro %}

{# Only the last staging counts where no state is kept. Rows go first everywhere, so that nobody waits in a circle. #}
{% macro forget_rows_of_builds(sync) %}delete from {{ dbt_posthog_sync.sync_table(sync, 'built') }}{% endmacro %}
{% macro forget_builds_of_sync(sync) %}
  delete from {{ dbt_posthog_sync.state_table(sync.schema, 'build_stagings') }} where sync_id = {{ dbt_posthog_sync.literal(sync.id) }}
{% endmacro %}

{# What tells a table from one that was built after it under the same name; null where the warehouse does not say. #}
{% macro relation_identity(relation) %}{{ return(adapter.dispatch('relation_identity', 'dbt_posthog_sync')(relation)) }}{% endmacro %}
{% macro default__relation_identity(relation) %}{{ return('cast(null as ' ~ dbt_posthog_sync.type_text() ~ ')') }}{% endmacro %}
{% macro postgres__relation_identity(relation) %}
  {{- return("(select c.oid::text || '/' || c.relfilenode::text from pg_catalog.pg_class c where c.oid = to_regclass(" ~ dbt_posthog_sync.literal(relation) ~ "))") -}}
{% endmacro %}

{# --- for the run --- #}

{# Stagings that wait, the oldest first. #}
{% macro read_builds(sync) %}
  select staging_id, invocation_id, {{ dbt_posthog_sync.as_text('staged_at') }}, epoch, digest, keeps_every, rows_table,
    unchanged, added, changed, removed, model_rows, window_start, next_window_start,
    coalesce(relation_identity = {{ dbt_posthog_sync.relation_identity(sync.relation_name) }}, relation_identity is null)
  from {{ dbt_posthog_sync.state_table(sync.schema, 'build_stagings') }}
  where sync_id = {{ dbt_posthog_sync.literal(sync.id) }} order by build_stagings.staged_at, staging_id
{% endmacro %}

{# The rows of a build in place of the diff's. Of a kept one only those that PostHog has not: a run that was killed may have
   delivered the others. Who was erased since is left out. #}
{% macro built_rows(sync) %}
  select b.sync_key, b.kind, b.row_hash, b.identity_hash, b.row_moment, b.staged_at, b.lane, b.message,
    {%- if sync.has_erased and sync.build.keeps_every %}
    case {{ dbt_posthog_sync.erased_of_build(sync) }} else b.reason end as reason
    {%- else %} b.reason
    {%- endif %}
  from {{ dbt_posthog_sync.sync_table(sync, 'built') }} b
  where b.staging_id = {{ dbt_posthog_sync.literal(sync.build.staging_id) }} and b.kind <> {{ dbt_posthog_sync.kind('removed') }}
  {%- if sync.build.keeps_every %}
    and not exists (select 1 from {{ dbt_posthog_sync.snapshot(sync) }} s
      where s.sync_key = b.sync_key{% if not sync.compares_keys_only %} and s.row_hash = b.row_hash{% endif %})
  {%- endif %}
{% endmacro %}

{% macro erased_of_build(sync) %}
  {%- set erased = 'in (select identity from ' ~ dbt_posthog_sync.state_table(sync.schema, 'erased_persons') ~ ' where kind = ' -%}
  {{ dbt_posthog_sync.when('b.distinct_id ' ~ erased ~ "'distinct_id')", 'erased') }}
  {{ dbt_posthog_sync.when(dbt_posthog_sync.email_text('b.distinct_id') ~ ' ' ~ erased ~ "'email')", 'erased') }}
{%- endmacro %}

{# Keys that were gone when the model was built. #}
{% macro removed_at_build(sync) %}
  select sync_key, row_hash, identity_hash, row_moment from {{ dbt_posthog_sync.sync_table(sync, 'built') }}
  where staging_id = {{ dbt_posthog_sync.literal(sync.build.staging_id) }} and kind = {{ dbt_posthog_sync.kind('removed') }}
{% endmacro %}

{# Messages as the build made them. #}
{% macro kept_messages(sync, resume) %}
  select c.position, c.lane, c.message from {{ dbt_posthog_sync.sync_table(sync, 'changes') }} c where c.reason is null
  {%- if resume %}
    and not exists (select 1 from {{ dbt_posthog_sync.sync_table(sync, 'log') }} g
      where g.sync_key = c.sync_key and g.epoch = {{ sync.epoch }})
    and not exists (select 1 from {{ dbt_posthog_sync.state_table(sync.schema, 'rejected_rows') }} r
      where r.sync_id = {{ dbt_posthog_sync.literal(sync.id) }} and r.last_run_id = {{ dbt_posthog_sync.literal(sync.run_id) }}
        and r.sync_key = {{ dbt_posthog_sync.as_text('c.sync_key') }})
  {%- endif %}
{%- endmacro %}

{% macro forget_build_rows(schema, table, staging_id) %}
  delete from {{ dbt_posthog_sync.state_table(schema, table) }} where staging_id = {{ dbt_posthog_sync.literal(staging_id) }}
{% endmacro %}
{% macro forget_build(schema, staging_id) %}
  delete from {{ dbt_posthog_sync.state_table(schema, 'build_stagings') }} where staging_id = {{ dbt_posthog_sync.literal(staging_id) }}
{% endmacro %}

{% macro read_build_sync(schema, sync_id) %}
  select digest, targets, known_columns, program, rows_table, model from {{ dbt_posthog_sync.state_table(schema, 'build_syncs') }}
  where sync_id = {{ dbt_posthog_sync.literal(sync_id) }}
{% endmacro %}
{% macro forget_build_sync(schema, sync_id) %}
  delete from {{ dbt_posthog_sync.state_table(schema, 'build_syncs') }} where sync_id = {{ dbt_posthog_sync.literal(sync_id) }}
{% endmacro %}
{% macro insert_build_sync(schema, values) %}
  {%- set text = dbt_posthog_sync.literal -%}
  insert into {{ dbt_posthog_sync.state_table(schema, 'build_syncs') }}
    (sync_id, model, arguments, digest, known_columns, targets, program, rows_table, keeps_every, stored_at)
  select {{ text(values.sync_id) }}, {{ text(values.model) }}, {{ text(values.arguments) }}, {{ text(values.digest) }},
    {{ text(values.known_columns) }}, {{ text(values.targets) }}, {{ text(values.program) }}, {{ text(values.rows_table) }},
    {{ 'true' if values.keeps_every else 'false' }}, {{ dbt_posthog_sync.clock() }}
{% endmacro %}
