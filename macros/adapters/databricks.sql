{# Databricks is Spark with Delta tables; macros of Spark that are not here serve both. #}

{% macro databricks__session_settings() %}{{ return(["set time zone 'UTC'", 'set ansi_mode = false']) }}{% endmacro %}

{# Delta is what a table is here unless something else is asked for. #}
{% macro databricks__table_options(is_temporary) %}{{ return('') }}{% endmacro %}

{% macro databricks__type_names() %}{{ return({'timestamp': 'timestamptz', 'variant': 'jsonb', 'interval': 'unsupported', 'void': 'unsupported'}) }}{% endmacro %}

{# In a catalogue the schema has a database. #}
{% macro databricks__read_temporary_tables() %}
  show tables in {{ api.Relation.create(database=dbt_posthog_sync.target_database(), schema=target.schema).without_identifier() }}
    like '*{{ dbt_posthog_sync.process_suffix() }}'
{% endmacro %}
{% macro databricks__read_tables_of(schema, prefix) %}
  show tables in {{ api.Relation.create(database=dbt_posthog_sync.target_database(), schema=schema).without_identifier() }} like '{{ prefix }}*'
{% endmacro %}

{% macro databricks__hash_name() %}{{ return('databricks xxhash64 of seed, columns and their nulls') }}{% endmacro %}
