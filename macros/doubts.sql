{# Doubts: rows of which PostHog may have another content than the snapshot says, because an answer got lost, a run was
   killed, or one that lost its lease was still sending. They are sent again even where they equal the snapshot. #}

{# Rows that an interrupted run had staged and did not confirm: sent or not, nobody knows. What was in doubt before stays
   so under the identity it had then, whatever that run made of it. #}
{% macro left_staged(sync) %}
  select p.sync_key, p.row_hash, coalesce(p.doubt_identity, p.identity_hash) as identity_hash from {{ dbt_posthog_sync.sync_table(sync, 'previous') }} p
  where (p.reason is null or coalesce(p.in_doubt, false)) and not exists (select 1 from {{ dbt_posthog_sync.sync_table(sync, 'log') }} g
    where g.sync_key = p.sync_key and g.epoch = {{ sync.previous_epoch }})
{%- endmacro %}

{# Keys in doubt, each once, with the identity under which an event may have arrived. #}
{% macro doubts(sync) %}
  (select sync_key, max(identity_hash) as identity_hash from (
    {%- if sync.tables.previous.name %}
    select sync_key, identity_hash from ({{ dbt_posthog_sync.left_staged(sync) }}) l
    union all
    {%- endif %}
    select cast(sync_key as {{ dbt_posthog_sync.type_key(sync.key.type) }}) as sync_key, identity_hash
    from {{ dbt_posthog_sync.state_table(sync.schema, 'doubtful_rows') }} where sync_id = {{ dbt_posthog_sync.literal(sync.id) }}
  ) u group by sync_key)
{%- endmacro %}

{# What stays of the staged rows when a run has ended by itself: those that were sent without an answer, those that were
   in doubt before and still are, and those that arrived while another person of their key did not: the key is not
   confirmed, so the snapshot does not say what PostHog has of it. #}
{% macro keep_doubted(sync, positions) %}
  delete from {{ dbt_posthog_sync.sync_table(sync, 'changes') }} as c
  where {{ dbt_posthog_sync.lease_is_held(sync) }}
    {%- if positions %}
    and not ({{ dbt_posthog_sync.is_among('c.position', positions) }})
    {%- endif %}
    and ((not c.in_doubt{% if sync.fans_out %} and not c.is_delivered{% endif %})
      or exists (select 1 from {{ dbt_posthog_sync.sync_table(sync, 'log') }} g
        where g.sync_key = c.sync_key and g.epoch = {{ sync.epoch }}))
{% endmacro %}

{% macro count_staged(sync) %}select count(*) from {{ dbt_posthog_sync.sync_table(sync, 'changes') }}{% endmacro %}

{# Staged rows of an interrupted run that are no rejected rows: a retry would forget them. Not those that a later run
   left out although they are in doubt: no run can end these, and their doubt outlives a retry. #}
{% macro count_left_unrejected(sync) %}
  select count(*) from ({{ dbt_posthog_sync.left_staged(sync) }} and p.reason is null) l
  where {{ dbt_posthog_sync.as_text('l.sync_key') }} not in (
    select sync_key from {{ dbt_posthog_sync.state_table(sync.schema, 'rejected_rows') }}
    where sync_id = {{ dbt_posthog_sync.literal(sync.id) }} and resolved_at is null and sync_key is not null)
{% endmacro %}

{# Rows that are staged carry their doubt themselves. #}
{% macro forget_doubtful(sync) %}
  delete from {{ dbt_posthog_sync.state_table(sync.schema, 'doubtful_rows') }}
  where sync_id = {{ dbt_posthog_sync.literal(sync.id) }}
    and sync_key in (select {{ dbt_posthog_sync.as_text('sync_key') }} from {{ dbt_posthog_sync.sync_table(sync, 'changes') }} where sync_key is not null)
{% endmacro %}

{# Rows in doubt that left the model: they may come back as they were, which no hash would show. #}
{% macro keep_absent_doubts(sync, has_staged) %}
  insert into {{ dbt_posthog_sync.state_table(sync.schema, 'doubtful_rows') }} (sync_id, sync_key, identity_hash)
  select {{ dbt_posthog_sync.literal(sync.id) }}, {{ dbt_posthog_sync.as_text('l.sync_key') }}, max(l.identity_hash)
  from ({{ dbt_posthog_sync.left_staged(sync) }}) l
  where l.sync_key is not null
    {%- if has_staged %}
    and not exists (select 1 from {{ dbt_posthog_sync.sync_table(sync, 'changes') }} c where c.sync_key = l.sync_key)
    {%- endif %}
    and not exists (select 1 from {{ dbt_posthog_sync.state_table(sync.schema, 'doubtful_rows') }} r
      where r.sync_id = {{ dbt_posthog_sync.literal(sync.id) }} and r.sync_key = {{ dbt_posthog_sync.as_text('l.sync_key') }})
  group by l.sync_key
{% endmacro %}

{# After a takeover: the run before may still send what it had staged, on top of what this one sends. The next run sends
   these rows once more; rows that both runs staged alike are the same message twice. #}
{% macro insert_doubtful(sync) %}
  insert into {{ dbt_posthog_sync.state_table(sync.schema, 'doubtful_rows') }} (sync_id, sync_key)
  select {{ dbt_posthog_sync.literal(sync.id) }}, {{ dbt_posthog_sync.as_text('l.sync_key') }}
  from ({{ dbt_posthog_sync.left_staged(sync) }}) l
  where not exists (select 1 from {{ dbt_posthog_sync.sync_table(sync, 'changes') }} c
    where c.sync_key = l.sync_key and c.row_hash = l.row_hash)
{% endmacro %}
