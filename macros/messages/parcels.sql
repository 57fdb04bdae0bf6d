{# Parcels: the stream without a join, where a table tells a version of a row from every other.

   A staged row remembers where its row lies (`row_place`) and which version of it was staged (`row_version`). Each is
   then fetched by its place, in the order of the staged rows, and many messages make one parcel: a row of the result.
   What does not come that way (a row that moved since, or is large) is for `message_stream` to find by its key. #}

{# Whether the rows of a relation have places; empty where no relation's have, and then nothing here is asked for. #}
{% macro read_has_places(relation) %}{{ return(adapter.dispatch('read_has_places', 'dbt_posthog_sync')(relation)) }}{% endmacro %}
{% macro default__read_has_places(relation) %}{{ return('') }}{% endmacro %}

{# Columns of a staged row: place, version, and whether it is too large to share a parcel. #}
{% macro row_place(sync) %}{{ return(adapter.dispatch('row_place', 'dbt_posthog_sync')(sync)) }}{% endmacro %}
{% macro default__row_place(sync) %}{{ return('') }}{% endmacro %}

{# One text for each parcel: position, lane and message of its rows, one after the other. Readers share the parcels. #}
{% macro message_parcels(sync, reader=0, readers=1) %}
  {{- return(adapter.dispatch('message_parcels', 'dbt_posthog_sync')(sync, reader, readers)) -}}
{% endmacro %}
{% macro default__message_parcels(sync, reader, readers) %}{{ return('') }}{% endmacro %}

{# The statement that gives them as one row each in COPY's binary format, and settings of the connection that reads. #}
{% macro parcel_statement(select) %}{{ return(adapter.dispatch('parcel_statement', 'dbt_posthog_sync')(select)) }}{% endmacro %}
{% macro default__parcel_statement(select) %}{{ return(select) }}{% endmacro %}
{% macro parcel_settings() %}{{ return(adapter.dispatch('parcel_settings', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__parcel_settings() %}{{ return([]) }}{% endmacro %}

{# --- Postgres --- #}

{# Heap tables have places, also of materialized views; a table with children has the places of several. #}
{% macro postgres__read_has_places(relation) %}
  select c.relkind in ('r', 'm') and not c.relhassubclass
    and exists (select 1 from pg_am a where a.oid = c.relam and a.amname = 'heap')
  from pg_class c where c.oid = {{ dbt_posthog_sync.literal(relation) }}::regclass
{% endmacro %}

{# Every version of a row has a place of its own while it can be seen, and the number of the transaction that wrote it
   (PostgreSQL documentation: System Columns). A table that is written anew may have another row at that place, but not
   one of the same key and transaction. Values that lie elsewhere or compressed may be of any size. #}
{% macro postgres__row_place(sync) %}
  {%- set lengths, others = [], [] -%}
  {%- for column in sync.hashed_columns if column.is_wide -%}
    {%- set expression = dbt_posthog_sync.model_column(column) -%}
    {%- if column.type.family == 'text' -%}{%- do lengths.append('coalesce(octet_length(' ~ dbt_posthog_sync.as_text(expression) ~ '), 0)') -%}
    {%- else -%}
      {%- do lengths.append('coalesce(pg_column_size(' ~ expression ~ '), 0)') -%}
      {%- do others.append('pg_column_compression(' ~ expression ~ ') is not null') -%}
    {%- endif -%}
  {%- endfor -%}
  {%- set is_long = [dbt_posthog_sync.joined(lengths, ' + ') ~ ' > 4096'] if lengths else [] -%}
  m.ctid as row_place, m.xmin as row_version, {{ (is_long + others) | join(' or ') or 'false' }} as is_large
{%- endmacro %}

{# Sixteen pages of staged rows make a parcel of about 1,300 messages: fewer rows, and waiting for the pages is dear; more,
   and a parcel is a burden to whoever holds it. No row is longer than a page, so the largest parcel is bounded. #}
{% macro postgres__message_parcels(sync, reader, readers) %}
  {%- set staged = dbt_posthog_sync.sync_table(sync, 'changes') -%}
  {%- set separator = dbt_posthog_sync.literal('\x1f') -%}
  select p.messages
  from generate_series({{ 16 * reader }}, pg_relation_size({{ dbt_posthog_sync.literal(staged) }}::regclass)
    / current_setting('block_size')::bigint, {{ 16 * readers }}) as pages(page)
  cross join lateral (
    select string_agg(c.position::text || {{ separator }} || ({{ dbt_posthog_sync.streamed_lane(sync) }})::text || {{ separator }}
      || {{ dbt_posthog_sync.streamed_message(sync) }}, {{ separator }}) as messages
    from {{ staged }} c
    join {{ sync.relation }} m on m.ctid = c.row_place and m.xmin = c.row_version
      and {{ dbt_posthog_sync.key_expression(sync) }} = c.sync_key
    where c.ctid >= cast('(' || pages.page || ',0)' as tid) and c.ctid < cast('(' || pages.page + 16 || ',0)' as tid)
      and c.reason is null and not c.is_large
  ) p
  where p.messages is not null
{%- endmacro %}

{# Binary, because a text would be looked through for what to escape, and there is nothing. #}
{% macro postgres__parcel_statement(select) %}copy ({{ select }}) to stdout with (format binary){% endmacro %}

{# Only fetching by place is right here, and the planner does not know how few rows there are to a place. #}
{% macro postgres__parcel_settings() %}
  {{- return(["set enable_hashjoin to off", "set enable_mergejoin to off", "set enable_seqscan to off", "set jit to off"]) -}}
{% endmacro %}
