{# A few rows of a model, to try out what becomes of them. #}

{# Name of the temporary table that holds them, ready to be used in SQL. #}
{% macro few_rows_relation(name) %}{{ return(dbt_posthog_sync.temporary_table(name)) }}{% endmacro %}

{# A copy, because another query for a few rows could find other ones. #}
{% macro create_few_rows(relation, name, most) %}
  create {{ dbt_posthog_sync.temporary_kind() }} {{ dbt_posthog_sync.few_rows_relation(name) }}{{ dbt_posthog_sync.table_options(true) }}
  as select * from {{ relation }} limit {{ most }}
{% endmacro %}

{# A row where the model has an event of this name. #}
{% macro has_event(sync, name) %}
  select 1 from {{ sync.relation }} m where {{ dbt_posthog_sync.event_name(sync) }} = {{ dbt_posthog_sync.literal(name) }} limit 1
{% endmacro %}
