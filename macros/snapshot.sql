{# The snapshot: what PostHog has accepted, as a base table and a log that is only appended to. #}

{# Origins of a log row. A removed row is a tombstone: its key is no longer in the model. #}
{% macro origin(name) %}{{ return({'delivered': 0, 'baseline': 1, 'removed': 2}[name]) }}{% endmacro %}

{% macro create_base_table(sync) %}
  create table {{ dbt_posthog_sync.sync_table(sync, 'base') }} (
    sync_key {{ dbt_posthog_sync.type_key(sync.key.type) }}, row_hash {{ dbt_posthog_sync.type_hash() }},
    identity_hash {{ dbt_posthog_sync.type_hash() }}, row_moment {{ dbt_posthog_sync.type_moment() }}){{ dbt_posthog_sync.table_options() }}
{% endmacro %}

{% macro create_log_table(sync, part='log') %}
  create table {{ dbt_posthog_sync.sync_table(sync, part) }} (
    sync_key {{ dbt_posthog_sync.type_key(sync.key.type) }}, row_hash {{ dbt_posthog_sync.type_hash() }},
    identity_hash {{ dbt_posthog_sync.type_hash() }}, row_moment {{ dbt_posthog_sync.type_moment() }},
    epoch bigint, origin smallint){{ dbt_posthog_sync.table_options() }}
{% endmacro %}

{# The last word of the log about each key. #}
{% macro latest_log(sync, keys='') %}
  {{- return(adapter.dispatch('latest_log', 'dbt_posthog_sync')(sync, dbt_posthog_sync.part_of_these(sync, 'log', keys) ~ ' g')) -}}
{% endmacro %}
{% macro default__latest_log(sync, log) %}
  (select sync_key, row_hash, identity_hash, row_moment, origin from (
     select g.*, row_number() over (partition by sync_key order by epoch desc, origin) as rank_of_key
     from {{ log }}) ranked
   where rank_of_key = 1)
{%- endmacro %}

{# A table of the snapshot, or the rows of it that have one of these keys. #}
{% macro part_of_these(sync, part, keys) %}
  {%- set table = dbt_posthog_sync.sync_table(sync, part) -%}
  {{- return('(select p.* from ' ~ keys ~ ' k join ' ~ table ~ ' p on p.sync_key = k.sync_key)' if keys else table) -}}
{% endmacro %}

{# Every key that PostHog has, with its hash: base and log read as one. #}
{% macro snapshot(sync) %}
  (select b.sync_key, b.row_hash, b.identity_hash, b.row_moment
   from {{ dbt_posthog_sync.sync_table(sync, 'base') }} b
   where not exists (select 1 from {{ dbt_posthog_sync.sync_table(sync, 'log') }} g where g.sync_key = b.sync_key)
   union all
   select sync_key, row_hash, identity_hash, row_moment from {{ dbt_posthog_sync.latest_log(sync) }} latest
   where origin <> {{ dbt_posthog_sync.origin('removed') }})
{%- endmacro %}

{% macro count_snapshot(sync) %}select count(*) from {{ dbt_posthog_sync.snapshot(sync) }} s{% endmacro %}

{% macro count_log(sync) %}select count(*) from {{ dbt_posthog_sync.sync_table(sync, 'log') }}{% endmacro %}

{# Keys that PostHog has and the model has no more, kept as they are found at staging: later the model may be another. #}
{% macro stage_removed(sync) %}
  {{ dbt_posthog_sync.create_sync_table(sync, 'removed') }} as
  {%- if sync.build -%}
  {{ dbt_posthog_sync.removed_at_build(sync) }}
  {%- else %}
  select s.sync_key, s.row_hash, s.identity_hash, s.row_moment from {{ dbt_posthog_sync.snapshot(sync) }} s
  where not exists (select 1 from {{ sync.relation }} m where {{ dbt_posthog_sync.key_expression(sync) }} = s.sync_key)
  {%- endif %}
{% endmacro %}

{% macro count_removed(sync) %}select count(*) from {{ dbt_posthog_sync.sync_table(sync, 'removed') }}{% endmacro %}

{% macro record_removed(sync) %}
  insert into {{ dbt_posthog_sync.sync_table(sync, 'log') }} (sync_key, row_hash, identity_hash, row_moment, epoch, origin)
  select sync_key, row_hash, identity_hash, row_moment, {{ sync.epoch }}, {{ dbt_posthog_sync.origin('removed') }}
  from {{ dbt_posthog_sync.sync_table(sync, 'removed') }} r where {{ dbt_posthog_sync.lease_is_held(sync) }}
{% endmacro %}

{# Confirm: exactly the rows at these positions, and only while the lease is ours. #}
{% macro confirm(sync, positions) %}
  insert into {{ dbt_posthog_sync.sync_table(sync, 'log') }} (sync_key, row_hash, identity_hash, row_moment, epoch, origin)
  select c.sync_key, c.row_hash, c.identity_hash, c.row_moment, {{ sync.epoch }}, {{ dbt_posthog_sync.origin('delivered') }}
  from {{ dbt_posthog_sync.sync_table(sync, 'changes') }} c
  where {{ dbt_posthog_sync.is_among('c.position', positions) }} and {{ dbt_posthog_sync.lease_is_held(sync) }}
{% endmacro %}

{# A key that stands for several persons is confirmed with the last of them: first the rows at these positions are marked,
   then the keys are confirmed of which no row that may be sent is left. #}
{% macro mark_delivered(sync, positions) %}
  update {{ dbt_posthog_sync.sync_table(sync, 'changes') }} set is_delivered = true
  where {{ dbt_posthog_sync.is_among('position', positions) }} and {{ dbt_posthog_sync.lease_is_held(sync) }}
{% endmacro %}

{% macro confirm_complete_keys(sync, positions) %}
  insert into {{ dbt_posthog_sync.sync_table(sync, 'log') }} (sync_key, row_hash, identity_hash, row_moment, epoch, origin)
  select distinct c.sync_key, c.row_hash, c.identity_hash, c.row_moment, {{ sync.epoch }}, {{ dbt_posthog_sync.origin('delivered') }}
  from {{ dbt_posthog_sync.sync_table(sync, 'changes') }} c
  where {{ dbt_posthog_sync.is_among('c.position', positions) }} and {{ dbt_posthog_sync.lease_is_held(sync) }}
    and not exists (select 1 from {{ dbt_posthog_sync.sync_table(sync, 'changes') }} s
      where s.sync_key = c.sync_key and s.reason is null and not s.is_delivered)
{% endmacro %}

{# True at these positions. They arrive as `positions.py` writes them: the bounds let the warehouse leave out the
   parts of a table that hold none of them; within the bounds each position has a mark, which costs no join, or few
   that lie far apart are listed. #}
{% macro is_among(position, positions) %}
  {{ position }} between {{ positions.lowest }} and {{ positions.highest }} and
  {%- if positions.marks %}
    case when {{ position }} between {{ positions.lowest }} and {{ positions.highest }} then {# no mark is read beyond the last #}
      {{- dbt_posthog_sync.is_marked(position ~ ' - ' ~ positions.lowest, positions.marks) }} else false end
  {%- else %} {{ dbt_posthog_sync.is_listed(position, positions.listed) }}
  {%- endif %}
{%- endmacro %}

{# True where the text of zeros and ones, as long as the bounds are apart, has a one; the first is number 0. #}
{% macro is_marked(number, marks) %}{{ return(adapter.dispatch('is_marked', 'dbt_posthog_sync')(number, marks)) }}{% endmacro %}

{# True where a comma-separated text has the position. #}
{% macro is_listed(position, positions) %}{{ return(adapter.dispatch('is_listed', 'dbt_posthog_sync')(position, positions)) }}{% endmacro %}
{% macro default__is_listed(position, positions) %}
  {{- return(position ~ ' in (select p.position from ' ~ dbt_posthog_sync.position_list(positions) ~ ')') -}}
{% endmacro %}

{# Positions as a relation `p(position)`; they arrive as one comma-separated text. #}
{% macro position_list(positions) %}{{ return(adapter.dispatch('position_list', 'dbt_posthog_sync')(positions)) }}{% endmacro %}

{# Take good staged rows as known: nothing is sent for them. #}
{% macro confirm_baseline(sync) %}
  insert into {{ dbt_posthog_sync.sync_table(sync, 'log') }} (sync_key, row_hash, identity_hash, row_moment, epoch, origin)
  select c.sync_key, c.row_hash, c.identity_hash, c.row_moment, {{ sync.epoch }}, {{ dbt_posthog_sync.origin('baseline') }}
  from {{ dbt_posthog_sync.baseline(sync) }} c where {{ dbt_posthog_sync.lease_is_held(sync) }}
{% endmacro %}

{% macro count_baseline(sync) %}select count(*) from {{ dbt_posthog_sync.baseline(sync) }} c{% endmacro %}

{# Staged rows that may be taken as known: all good ones that are not in doubt. After a changed mapping only those whose
   content is what was delivered, which their hash under the former mapping tells; a row that changed beside it must
   still be sent. #}
{% macro baseline(sync) %}
  (select c.* from {{ dbt_posthog_sync.sync_table(sync, 'changes') }} c
  {%- if sync.former %}
  join {{ sync.relation }} m on {{ dbt_posthog_sync.key_expression(sync) }} = c.sync_key
    and {{ dbt_posthog_sync.row_hash(sync.hashed_columns, sync.hash_seed) }} = c.row_hash
  join {{ dbt_posthog_sync.snapshot(sync) }} s on s.sync_key = c.sync_key
    and s.row_hash = {{ dbt_posthog_sync.row_hash(sync.former.columns, sync.former.seed) }}
  {%- endif %}
  where c.reason is null and not c.in_doubt)
{%- endmacro %}

{# Fold base and log into a new base. The caller holds the lease's row and drops the old two in the same transaction. #}
{% macro fold(sync) %}
  {{ dbt_posthog_sync.create_sync_table(sync, 'new_base') }} as
  select s.sync_key, s.row_hash, s.identity_hash, s.row_moment from {{ dbt_posthog_sync.snapshot(sync) }} s
{% endmacro %}

{# Statistics for a table that was just written; empty where the warehouse keeps them by itself. #}
{% macro gather_statistics(sync, part) %}{{ return(adapter.dispatch('gather_statistics', 'dbt_posthog_sync')(sync, part)) }}{% endmacro %}
{% macro default__gather_statistics(sync, part) %}{{ return('') }}{% endmacro %}

{% macro count_base(sync, part='base') %}select count(*) from {{ dbt_posthog_sync.sync_table(sync, part) }}{% endmacro %}

{# Dropping never waits for a reader: a run that stands still holds what it reads, and would hold up the run that took over. #}
{% macro drop_sync_table(sync, part) %}{{ return(dbt_posthog_sync.drop_unread(dbt_posthog_sync.sync_table(sync, part))) }}{% endmacro %}
{% macro drop_left_table(schema, name) %}{{ return(dbt_posthog_sync.drop_unread(dbt_posthog_sync.state_table(schema, name))) }}{% endmacro %}
{% macro drop_unread(table) %}{{ return(adapter.dispatch('drop_unread', 'dbt_posthog_sync')(table)) }}{% endmacro %}
{% macro default__drop_unread(table) %}drop table if exists {{ table }}{% endmacro %}

{# Names of the tables of a sync, those included that could not be dropped when they should have been. #}
{% macro read_tables_of(schema, prefix) %}{{ return(adapter.dispatch('read_tables_of', 'dbt_posthog_sync')(schema, prefix)) }}{% endmacro %}
{% macro default__read_tables_of(schema, prefix) %}
  select table_name from information_schema.tables
  where table_schema = {{ dbt_posthog_sync.literal(schema) }}
    and substr(table_name, 1, {{ prefix | length }}) = {{ dbt_posthog_sync.literal(prefix) }}
{% endmacro %}
