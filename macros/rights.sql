{# Statements that try what a run needs of the state schema. They run in one transaction, which is rolled back. #}

{# True when the state schema exists. #}
{% macro schema_exists(schema) %}
  {{- return(adapter.check_schema_exists(dbt_posthog_sync.target_database(), schema)) -}}
{% endmacro %}

{# Create the schema as dbt would, without the commit that dbt adds. #}
{% macro probe_create_schema(schema) %}{{ return(adapter.dispatch('probe_create_schema', 'dbt_posthog_sync')(schema)) }}{% endmacro %}
{% macro default__probe_create_schema(schema) %}
  create schema {{ api.Relation.create(database=dbt_posthog_sync.target_database(), schema=schema).without_identifier() }}
{% endmacro %}
{# Postgres takes no database there. #}
{% macro postgres__probe_create_schema(schema) %}
  create schema {{ api.Relation.create(database=dbt_posthog_sync.target_database(), schema=schema).without_identifier().include(database=False) }}
{% endmacro %}

{# A table that nobody else can have. #}
{% macro probe_create_table(schema, table) %}
  create table {{ dbt_posthog_sync.state_table(schema, table) }} (number {{ dbt_posthog_sync.type_hash() }}){{ dbt_posthog_sync.table_options() }}
{% endmacro %}

{# One row of it. #}
{% macro probe_insert(schema, table) %}
  insert into {{ dbt_posthog_sync.state_table(schema, table) }} (number) values (1)
{% endmacro %}

{# The same row again. #}
{% macro probe_read(schema, table) %}
  select number from {{ dbt_posthog_sync.state_table(schema, table) }}
{% endmacro %}

{# The schema that the probe made, where no rollback takes it away. #}
{% macro probe_drop_schema(schema) %}
  drop schema {{ api.Relation.create(database=dbt_posthog_sync.target_database(), schema=schema).without_identifier() }}
{% endmacro %}

{# And nothing is left, also where the warehouse commits by itself. #}
{% macro probe_drop_table(schema, table) %}
  drop table {{ dbt_posthog_sync.state_table(schema, table) }}
{% endmacro %}
