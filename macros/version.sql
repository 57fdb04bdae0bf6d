{% macro dbt_posthog_sync_version() %}{{ return("0.1.0") }}{% endmacro %}
