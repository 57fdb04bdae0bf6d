{# Names of our tables, and small pieces every statement needs. #}

{# A table of the state schema, quoted as the warehouse wants it. #}
{% macro state_table(schema, name) %}
  {{- return(api.Relation.create(database=dbt_posthog_sync.target_database(), schema=schema, identifier=name)) -}}
{% endmacro %}

{# One of a sync's own tables; `part` is base, log, changes, diff, previous. #}
{% macro sync_table(sync, part) %}
  {%- if dbt_posthog_sync.is_temporary(sync.tables[part]) -%}
    {{- return(dbt_posthog_sync.temporary_table(sync.tables[part].name)) -}}
  {%- endif -%}
  {{- return(dbt_posthog_sync.state_table(sync.schema, sync.tables[part].name)) -}}
{% endmacro %}

{# `create table` or `create temporary table` for one of a sync's tables, with its columns where no select says them. #}
{% macro create_sync_table(sync, part, columns='') %}
  {%- set table = sync.tables[part] -%}
  {%- set is_temporary = dbt_posthog_sync.is_temporary(table) -%}
  {%- set kind = dbt_posthog_sync.scratch_kind() if table.scratch else 'table' -%}
  create {{ dbt_posthog_sync.temporary_kind() if is_temporary else kind }} {{ dbt_posthog_sync.sync_table(sync, part) }}
  {%- if columns %} ({{ columns }}){% endif %}{{ dbt_posthog_sync.table_options(is_temporary) }}
{%- endmacro %}

{# True for a table that vanishes with the session: of a plan, or `scratch`, which a run drops before it commits. #}
{% macro is_temporary(table) %}
  {{- return(table.temporary or (table.scratch and dbt_posthog_sync.scratch_kind() == dbt_posthog_sync.temporary_kind())) -}}
{% endmacro %}

{# What a run makes for one transaction: a temporary table, unless the warehouse reads those more slowly. #}
{% macro scratch_kind() %}{{ return(adapter.dispatch('scratch_kind', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__scratch_kind() %}{{ return(dbt_posthog_sync.temporary_kind()) }}{% endmacro %}

{# A table that vanishes with the session. Where the warehouse has none, it is a table of the target's own schema with the
   name of this process, and `read_temporary_tables` finds it in the end. #}
{% macro temporary_table(name) %}{{ return(adapter.dispatch('temporary_table', 'dbt_posthog_sync')(name)) }}{% endmacro %}
{% macro default__temporary_table(name) %}{{ return(adapter.quote(name)) }}{% endmacro %}
{% macro temporary_kind() %}{{ return(adapter.dispatch('temporary_kind', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__temporary_kind() %}{{ return('temporary table') }}{% endmacro %}

{# Ends a name that no other process uses. #}
{% macro process_suffix() %}{{ return('__' ~ (invocation_id | replace('-', '') | truncate(12, true, ''))) }}{% endmacro %}

{# A temporary table where the warehouse has none; an adapter's `temporary_table` may be this. #}
{% macro named_temporary_table(name) %}
  {{- return(api.Relation.create(database=dbt_posthog_sync.target_database(), schema=target.schema,
    identifier=name ~ dbt_posthog_sync.process_suffix())) -}}
{% endmacro %}

{# Names of the tables that stand in for temporary ones; empty where the warehouse has such. #}
{% macro read_temporary_tables() %}{{ return(adapter.dispatch('read_temporary_tables', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__read_temporary_tables() %}{{ return('') }}{% endmacro %}
{# Which column of it, and of `read_tables_of`, has the name; counted from 0. #}
{% macro table_name_column() %}{{ return(adapter.dispatch('table_name_column', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__table_name_column() %}{{ return(0) }}{% endmacro %}
{% macro drop_temporary_table(name) %}
  drop table if exists {{ api.Relation.create(database=dbt_posthog_sync.target_database(), schema=target.schema, identifier=name) }}
{% endmacro %}

{# What follows the columns of a new table, such as its file format. #}
{% macro table_options(is_temporary=false) %}{{ return(adapter.dispatch('table_options', 'dbt_posthog_sync')(is_temporary)) }}{% endmacro %}
{% macro default__table_options(is_temporary) %}{{ return('') }}{% endmacro %}

{# What follows the type of a key that is unique in its table; no statement relies on it. #}
{% macro primary_key() %}{{ return(adapter.dispatch('primary_key', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__primary_key() %}{{ return(' primary key') }}{% endmacro %}

{# Sets columns of a table's rows to what a row of another source says; a row meets one row of the source at most.
   `values` maps columns to expressions over both aliases; `guard` is a condition that asks other tables, and knows the
   source's alias alone. #}
{% macro update_from(table, alias, values, source, source_alias, condition, guard='true') %}
  {{- return(adapter.dispatch('update_from', 'dbt_posthog_sync')(table, alias, values, source, source_alias, condition, guard)) -}}
{% endmacro %}
{% macro default__update_from(table, alias, values, source, source_alias, condition, guard) %}
  update {{ table }} as {{ alias }} set {% for column, value in values.items() %}{{ column }} = {{ value }}{{ ', ' if not loop.last }}{% endfor %}
  from {{ source }} {{ source_alias }}
  where {{ condition }}{% if guard != 'true' %} and {{ guard }}{% endif %}
{% endmacro %}
{# The same as standard SQL has it, for warehouses without `update ... from`; the guard may not stand in its condition. #}
{% macro merged_update(table, alias, values, source, source_alias, condition, guard) %}
  merge into {{ table }} as {{ alias }}
  using (select * from {{ source }} {{ source_alias }} where {{ guard }}) as {{ source_alias }} on {{ condition }}
  when matched then update set {% for column, value in values.items() %}{{ column }} = {{ value }}{{ ', ' if not loop.last }}{% endfor %}
{% endmacro %}

{# What a select without a table reads from, where it has a condition. #}
{% macro one_row() %}{{ return(adapter.dispatch('one_row', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__one_row() %}{{ return('') }}{% endmacro %}

{# A column of the model, quoted as the warehouse has it. #}
{% macro model_column(column, alias='m') %}{{ alias }}.{{ dbt_posthog_sync.quoted(column.name) }}{% endmacro %}

{# A name between quotes; quotes inside it are doubled, which dbt's own `quote` leaves out. #}
{% macro quoted(name) %}
  {%- set mark = adapter.quote('') | first -%}
  {{- return(adapter.quote(name | replace(mark, mark ~ mark))) -}}
{% endmacro %}

{# A text literal: the only way a value of the user's reaches SQL. #}
{% macro literal(text) %}{{ return(adapter.dispatch('literal', 'dbt_posthog_sync')(text)) }}{% endmacro %}
{% macro default__literal(text) %}{{ return("'" ~ (text | string | replace("'", "''")) ~ "'") }}{% endmacro %}

{# A number, a text or null as a literal. #}
{% macro optional_literal(value) %}
  {%- if value is none -%}{{- return('null') -}}
  {%- elif value is number -%}{{- return(value | string) -}}
  {%- endif -%}
  {{- return(dbt_posthog_sync.literal(value)) -}}
{% endmacro %}

{# Types of our own columns. #}
{% macro type_text() %}{{ return(adapter.dispatch('type_text', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__type_text() %}{{ return('text') }}{% endmacro %}
{% macro type_hash() %}{{ return(adapter.dispatch('type_hash', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__type_hash() %}{{ return('bigint') }}{% endmacro %}
{% macro type_double() %}{{ return(adapter.dispatch('type_double', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__type_double() %}{{ return('double precision') }}{% endmacro %}
{% macro type_moment() %}{{ return(adapter.dispatch('type_moment', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__type_moment() %}{{ return('timestamp with time zone') }}{% endmacro %}

{# The type that holds a sync key in our tables: wide enough that widening the model's column changes nothing. #}
{% macro type_key(type) %}{{ return(adapter.dispatch('type_key', 'dbt_posthog_sync')(type)) }}{% endmacro %}

{# Any value as its canonical text. #}
{% macro as_text(expression) %}cast({{ expression }} as {{ dbt_posthog_sync.type_text() }}){% endmacro %}

{# True when the relation of a model exists. #}
{% macro relation_exists(database, schema, identifier) %}
  {{- return(adapter.get_relation(database=database, schema=schema, identifier=identifier) is not none) -}}
{% endmacro %}

{# One row a column: name, type as text, whether the row hash must read it as text. Rows from one with an empty name on
   are remarks of the warehouse. #}
{% macro describe_columns(relation) %}{{ return(adapter.dispatch('describe_columns', 'dbt_posthog_sync')(relation)) }}{% endmacro %}

{# The current rows of a dbt snapshot, to stand where a relation does, before an alias: their `valid_to` is null or, as
   dbt's own macros have it, what `dbt_valid_to_current` says. A row that dbt added for a deletion is not current. #}
{% macro current_rows(relation, valid_to, open_end, is_deleted) %}
  {%- set end = 's.' ~ dbt_posthog_sync.quoted(valid_to) -%}
  {%- set mark = 's.' ~ dbt_posthog_sync.quoted(is_deleted) if is_deleted else none -%}
  {%- set is_open = '(' ~ end ~ ' is null or ' ~ end ~ ' = ' ~ open_end ~ ')' if open_end else end ~ ' is null' -%}
  {%- set is_there = ' and coalesce(' ~ dbt_posthog_sync.as_text(mark) ~ ", 'False') <> 'True'" if is_deleted else '' -%}
  {{- return('(select s.* from ' ~ relation ~ ' s where ' ~ is_open ~ is_there ~ ')') -}}
{% endmacro %}

{# What types of this warehouse are called in `column_type.py`, where the name alone says something else or nothing. #}
{% macro type_names() %}{{ return(adapter.dispatch('type_names', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__type_names() %}{{ return({}) }}{% endmacro %}

{# The module of the Python DB-API that wraps a connection of dbt's which has no cursor; empty where it has one. #}
{% macro cursor_module() %}{{ return(adapter.dispatch('cursor_module', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__cursor_module() %}{{ return('') }}{% endmacro %}

{# Statements that make a new connection predictable: UTC, UTF-8, no statement timeout. #}
{% macro session_settings() %}{{ return(adapter.dispatch('session_settings', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__session_settings() %}{{ return([]) }}{% endmacro %}

{# How a transaction of several statements begins and ends; empty where each statement stands for itself. #}
{% macro transaction_statements() %}{{ return(adapter.dispatch('transaction_statements', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__transaction_statements() %}{{ return({'begin': 'begin', 'commit': 'commit', 'rollback': 'rollback'}) }}{% endmacro %}

{# First statement of a transaction whose statements must all see one state of the warehouse; empty when any transaction does. #}
{% macro one_view_of_the_data() %}{{ return(adapter.dispatch('one_view_of_the_data', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__one_view_of_the_data() %}{{ return('') }}{% endmacro %}

{# How rows leave this warehouse: `copy` (COPY to a file object) or `rows` (fetchmany). #}
{% macro stream_method() %}{{ return(adapter.dispatch('stream_method', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__stream_method() %}{{ return('rows') }}{% endmacro %}

{# Settings of a connection that reads a stream, as a list; `processors` says how many this machine has. #}
{% macro stream_settings(processors) %}{{ return(adapter.dispatch('stream_settings', 'dbt_posthog_sync')(processors)) }}{% endmacro %}
{% macro default__stream_settings(processors) %}{{ return([]) }}{% endmacro %}

{# A select made ready for the stream method. #}
{% macro stream_statement(select) %}{{ return(adapter.dispatch('stream_statement', 'dbt_posthog_sync')(select)) }}{% endmacro %}
{% macro default__stream_statement(select) %}{{ return(select) }}{% endmacro %}

{# The database of the connected target. #}
{% macro target_database() %}{{ return(target.database if target.database is defined else none) }}{% endmacro %}

{# False where the warehouse is a file that one process holds. #}
{% macro admits_other_processes() %}{{ return(adapter.dispatch('admits_other_processes', 'dbt_posthog_sync')()) }}{% endmacro %}
{% macro default__admits_other_processes() %}{{ return(true) }}{% endmacro %}
