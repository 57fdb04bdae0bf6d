{# Rejected rows: what was not sent and why, and rows that move between staging and delivery. #}

{# Rejected staged rows, one for each key, content and reason, with the number of model rows it stands for. Skipped rows
   come back by themselves in every run, and are only kept where a cursor would hide them. #}
{% macro rejected_changes(sync) %}
  select {{ dbt_posthog_sync.as_text('sync_key') }} as key_text, row_hash, reason, count(*) as row_count
  from {{ dbt_posthog_sync.sync_table(sync, 'changes') }} where reason is not null
    {%- if not sync.cursor %} and not {{ dbt_posthog_sync.is_skip('reason') }}{% endif %}
  group by {{ dbt_posthog_sync.as_text('sync_key') }}, row_hash, reason
{% endmacro %}

{# Rows rejected at staging: new ones are written, known ones are seen again. #}
{% macro insert_rejected(sync) %}
  insert into {{ dbt_posthog_sync.state_table(sync.schema, 'rejected_rows') }}
    (sync_id, sync_name, sync_key, row_hash, reason, try_again, first_seen_at, last_seen_at, first_run_id, last_run_id,
     row_count)
  select {{ dbt_posthog_sync.literal(sync.id) }}, {{ dbt_posthog_sync.literal(sync.name) }}, c.key_text, c.row_hash, c.reason,
    case when {{ dbt_posthog_sync.heals('c.reason') }} then 'every run' else 'on change' end,
    {{ dbt_posthog_sync.clock() }}, {{ dbt_posthog_sync.clock() }},
    {{ dbt_posthog_sync.literal(sync.run_id) }}, {{ dbt_posthog_sync.literal(sync.run_id) }}, c.row_count
  from ({{ dbt_posthog_sync.rejected_changes(sync) }}) c
  where {{ dbt_posthog_sync.lease_is_held(sync) }} and not exists (
    select 1 from {{ dbt_posthog_sync.state_table(sync.schema, 'rejected_rows') }} r
    where {{ dbt_posthog_sync.is_open_reject(sync, 'c.reason') }})
{% endmacro %}

{# Open rejects `r` that were met again, as rows `c` say. #}
{% macro update_rejected(sync, values, rows, condition, guard='true') %}
  {%- do values.update({'last_seen_at': dbt_posthog_sync.clock(), 'last_run_id': dbt_posthog_sync.literal(sync.run_id)}) -%}
  {{ dbt_posthog_sync.update_from(dbt_posthog_sync.state_table(sync.schema, 'rejected_rows'), 'r', values, '(' ~ rows ~ ')', 'c', condition, guard) }}
{% endmacro %}

{% macro see_rejected_again(sync) %}
  {{ dbt_posthog_sync.update_rejected(sync, {'row_count': 'c.row_count'}, dbt_posthog_sync.rejected_changes(sync),
    dbt_posthog_sync.is_open_reject(sync, 'c.reason'), dbt_posthog_sync.lease_is_held(sync)) }}
{% endmacro %}

{# Rows that the destination refused, with its words; one statement a reason. Rows that it refused before, with the same
   words, are seen again. The persons of one row are counted together, however many answers it took. #}
{% macro refused_changes(sync, positions) %}
  select {{ dbt_posthog_sync.as_text('c.sync_key') }} as key_text, c.row_hash, count(*) as row_count
  from {{ dbt_posthog_sync.sync_table(sync, 'changes') }} c
  where {{ dbt_posthog_sync.is_among('c.position', positions) }}
  group by {{ dbt_posthog_sync.as_text('c.sync_key') }}, c.row_hash
{% endmacro %}

{% macro see_refused_again(sync, positions, reason) %}
  {{ dbt_posthog_sync.update_rejected(sync,
    {'row_count': 'c.row_count + case when r.last_run_id = ' ~ dbt_posthog_sync.literal(sync.run_id) ~ ' then r.row_count else 0 end'},
    dbt_posthog_sync.refused_changes(sync, positions), dbt_posthog_sync.is_open_reject(sync, dbt_posthog_sync.literal(reason))) }}
{% endmacro %}

{# The open reject `r` of a row `c`. #}
{% macro is_open_reject(sync, reason) %}
  r.sync_id = {{ dbt_posthog_sync.literal(sync.id) }} and r.resolved_at is null and r.row_hash = c.row_hash
    and (r.sync_key = c.key_text or (r.sync_key is null and c.key_text is null)) and r.reason = {{ reason }}
{%- endmacro %}

{% macro insert_refused(sync, positions, reason, heals) %}
  insert into {{ dbt_posthog_sync.state_table(sync.schema, 'rejected_rows') }}
    (sync_id, sync_name, sync_key, row_hash, reason, try_again, first_seen_at, last_seen_at, first_run_id, last_run_id,
     row_count)
  select {{ dbt_posthog_sync.literal(sync.id) }}, {{ dbt_posthog_sync.literal(sync.name) }}, c.key_text,
    c.row_hash, {{ dbt_posthog_sync.literal(reason) }}, '{{ 'every run' if heals else 'on change' }}', {{ dbt_posthog_sync.clock() }}, {{ dbt_posthog_sync.clock() }},
    {{ dbt_posthog_sync.literal(sync.run_id) }}, {{ dbt_posthog_sync.literal(sync.run_id) }}, c.row_count
  from ({{ dbt_posthog_sync.refused_changes(sync, positions) }}) c
  where not exists (select 1 from {{ dbt_posthog_sync.state_table(sync.schema, 'rejected_rows') }} r
    where {{ dbt_posthog_sync.is_open_reject(sync, dbt_posthog_sync.literal(reason)) }})
{% endmacro %}

{# A reject that this run did not meet again is resolved: the row was mended, delivered or removed. #}
{% macro resolve_rejected(sync) %}
  update {{ dbt_posthog_sync.state_table(sync.schema, 'rejected_rows') }} set resolved_at = {{ dbt_posthog_sync.clock() }}
  where sync_id = {{ dbt_posthog_sync.literal(sync.id) }} and resolved_at is null
    and last_run_id <> {{ dbt_posthog_sync.literal(sync.run_id) }} and {{ dbt_posthog_sync.lease_is_held(sync) }}
    {%- if sync.shard %} and {{ dbt_posthog_sync.in_shard(sync, 'sync_key') }}{% endif %}
{% endmacro %}

{% macro read_rejected(schema, sync_id=none, with_skipped=true) %}
  select sync_name, reason, cast(sum(row_count) as bigint), min(sync_key), {{ dbt_posthog_sync.as_text('min(first_seen_at)') }},
    {{ dbt_posthog_sync.as_text('max(last_seen_at)') }}
  from {{ dbt_posthog_sync.state_table(schema, 'rejected_rows') }} where resolved_at is null
  {%- if not with_skipped %} and not {{ dbt_posthog_sync.is_skip('reason') }}{% endif %}
  {%- if sync_id %} and sync_id = {{ dbt_posthog_sync.literal(sync_id) }}{% endif %}
  group by sync_name, reason order by sync_name, reason
{% endmacro %}

{# --- rows that moved: another at delivery than at staging --- #}

{# Staged rows that were neither confirmed nor refused, once the delivery is complete. #}
{% macro moved_changes(sync) %}
  select {{ dbt_posthog_sync.as_text('c.sync_key') }} as key_text, c.row_hash
  from {{ dbt_posthog_sync.sync_table(sync, 'changes') }} c
  where c.reason is null
    and not exists (select 1 from {{ dbt_posthog_sync.sync_table(sync, 'log') }} g
      where g.sync_key = c.sync_key and g.epoch = {{ sync.epoch }})
    and not exists (select 1 from {{ dbt_posthog_sync.state_table(sync.schema, 'rejected_rows') }} r
      where r.sync_id = {{ dbt_posthog_sync.literal(sync.id) }} and r.last_run_id = {{ dbt_posthog_sync.literal(sync.run_id) }}
        and r.reason <> {{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons().volatile) }}
        and r.sync_key = {{ dbt_posthog_sync.as_text('c.sync_key') }})
{% endmacro %}

{# The same among the rows that moved in the last complete run. #}
{% macro volatile_changes(sync) %}
  select key_text, max(row_hash) as row_hash from ({{ dbt_posthog_sync.moved_changes(sync) }}) moved
  where key_text in (select sync_key from {{ dbt_posthog_sync.state_table(sync.schema, 'moved_rows') }}
    where sync_id = {{ dbt_posthog_sync.literal(sync.id) }})
  group by key_text
{% endmacro %}

{% macro see_volatile_again(sync) %}
  {{ dbt_posthog_sync.update_rejected(sync, {'row_hash': 'c.row_hash'}, dbt_posthog_sync.volatile_changes(sync),
    dbt_posthog_sync.is_open_volatile(sync), dbt_posthog_sync.lease_is_held(sync)) }}
{% endmacro %}

{% macro is_open_volatile(sync) %}
  r.sync_id = {{ dbt_posthog_sync.literal(sync.id) }} and r.resolved_at is null and r.sync_key = c.key_text
    and r.reason = {{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons().volatile) }}
{%- endmacro %}

{% macro insert_volatile(sync) %}
  insert into {{ dbt_posthog_sync.state_table(sync.schema, 'rejected_rows') }}
    (sync_id, sync_name, sync_key, row_hash, reason, try_again, first_seen_at, last_seen_at, first_run_id, last_run_id,
     row_count)
  select {{ dbt_posthog_sync.literal(sync.id) }}, {{ dbt_posthog_sync.literal(sync.name) }}, c.key_text, c.row_hash,
    {{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons().volatile) }}, 'every run', {{ dbt_posthog_sync.clock() }}, {{ dbt_posthog_sync.clock() }},
    {{ dbt_posthog_sync.literal(sync.run_id) }}, {{ dbt_posthog_sync.literal(sync.run_id) }}, 1
  from ({{ dbt_posthog_sync.volatile_changes(sync) }}) c
  where {{ dbt_posthog_sync.lease_is_held(sync) }} and not exists (
    select 1 from {{ dbt_posthog_sync.state_table(sync.schema, 'rejected_rows') }} r where {{ dbt_posthog_sync.is_open_volatile(sync) }})
{% endmacro %}

{% macro count_volatile(sync) %}
  select {{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons().volatile) }}, count(*)
  from {{ dbt_posthog_sync.state_table(sync.schema, 'rejected_rows') }} r
  where r.sync_id = {{ dbt_posthog_sync.literal(sync.id) }} and r.last_run_id = {{ dbt_posthog_sync.literal(sync.run_id) }}
    and r.reason = {{ dbt_posthog_sync.literal(dbt_posthog_sync.reasons().volatile) }}
{% endmacro %}

{% macro forget_moved(sync) %}
  delete from {{ dbt_posthog_sync.state_table(sync.schema, 'moved_rows') }}
  where sync_id = {{ dbt_posthog_sync.literal(sync.id) }} and {{ dbt_posthog_sync.lease_is_held(sync) }}
    {%- if sync.shard %} and {{ dbt_posthog_sync.in_shard(sync, 'sync_key') }}{% endif %}
{% endmacro %}

{% macro insert_moved(sync) %}
  insert into {{ dbt_posthog_sync.state_table(sync.schema, 'moved_rows') }} (sync_id, sync_key)
  select {{ dbt_posthog_sync.literal(sync.id) }}, c.key_text from ({{ dbt_posthog_sync.moved_changes(sync) }}) c
  where {{ dbt_posthog_sync.lease_is_held(sync) }}
{% endmacro %}
