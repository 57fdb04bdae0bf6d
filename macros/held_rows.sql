{# Held rows: rows of a model that a failed dbt test stored (`store_failures`), for syncs with `gate: rows`. #}

{% macro count_stored(relation) %}select count(*) from {{ relation }}{% endmacro %}

{# A value as it is compared: as text, so that types that only look different are alike, and null as something. #}
{% macro told_apart(alias, name) %}
  {{- return("coalesce('=' || " ~ dbt_posthog_sync.as_text(dbt_posthog_sync.model_column({'name': name}, alias)) ~ ", '')") -}}
{% endmacro %}

{# True where the row `m` of the model is the stored row `f`. Equalities only: the warehouse can hash them. #}
{% macro is_stored_row(held) %}
  {%- for mine, theirs in held.columns %}{{ dbt_posthog_sync.told_apart('m', mine) }} = {{ dbt_posthog_sync.told_apart('f', theirs) }}{{ ' and ' if not loop.last }}{% endfor %}
{%- endmacro %}

{# Stored rows that are none of the model. #}
{% macro count_strangers(relation, held) %}
  select count(*) from {{ held.relation }} f
  where not exists (select 1 from {{ relation }} m where {{ dbt_posthog_sync.is_stored_row(held) }})
{% endmacro %}

{% macro held_prefix() %}{{ return('held back: a failed dbt test stored the row: ') }}{% endmacro %}

{% macro is_held(reason) %}
  coalesce(substr({{ reason }}, 1, {{ dbt_posthog_sync.held_prefix() | length }}) = {{ dbt_posthog_sync.literal(dbt_posthog_sync.held_prefix()) }}, false)
{%- endmacro %}

{# Staged rows that are stored rows of the test. Rows without a key are rejected for that. #}
{% macro reject_held(sync, held) %}
  update {{ dbt_posthog_sync.sync_table(sync, 'changes') }} set reason = {{ dbt_posthog_sync.literal(dbt_posthog_sync.held_prefix() ~ held.test) }}
  where reason is null and sync_key in (
    select {{ dbt_posthog_sync.key_expression(sync) }} from {{ sync.relation }} m
    where exists (select 1 from {{ held.relation }} f where {{ dbt_posthog_sync.is_stored_row(held) }}))
{% endmacro %}
