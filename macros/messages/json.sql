{# JSON of one value, by the family of its type; null where the value is null or has no JSON form (NaN, infinity).
   The parts are text, ready to be joined: no JSON value is built and printed again. #}

{% macro json_of(expression, type, time_zone='UTC') %}
  {%- if type.family == 'boolean' -%}
    {{- return("case when " ~ expression ~ " then 'true' when not " ~ expression ~ " then 'false' end") -}}
  {%- elif type.family == 'integer' -%}
    {{- return(dbt_posthog_sync.as_text(expression)) -}}
  {%- elif type.family == 'bigint' -%}
    {{- return(dbt_posthog_sync.json_bigint(expression)) -}}
  {%- elif type.family in ('text', 'enum', 'interval') -%}
    {{- return(dbt_posthog_sync.json_text(dbt_posthog_sync.as_text(expression))) -}}
  {%- elif type.family in ('uuid', 'time') -%}
    {{- return("'\"' || " ~ dbt_posthog_sync.as_text(expression) ~ " || '\"'") -}}
  {%- elif type.family in ('timestamp', 'timestamp_tz') -%}
    {{- return(adapter.dispatch('json_timestamp', 'dbt_posthog_sync')(expression, type, time_zone)) -}}
  {%- elif type.family == 'array' -%}
    {{- return(adapter.dispatch('json_array', 'dbt_posthog_sync')(expression, type, time_zone)) -}}
  {%- endif -%}
  {{- return(adapter.dispatch('json_' ~ type.family, 'dbt_posthog_sync')(expression, type, time_zone)) -}}
{% endmacro %}

{# A text as a JSON string. #}
{% macro json_text(expression) %}{{ return(adapter.dispatch('json_text', 'dbt_posthog_sync')(expression)) }}{% endmacro %}

{# Integers beyond 2^53 become strings: a double, which is what PostHog and browsers read, cannot tell them from their neighbours. #}
{% macro json_bigint(expression) %}
  {{- return("case when " ~ expression ~ " between -9007199254740992 and 9007199254740992 then " ~ dbt_posthog_sync.as_text(expression)
    ~ " when " ~ expression ~ " is not null then '\"' || " ~ dbt_posthog_sync.as_text(expression) ~ " || '\"' end") -}}
{% endmacro %}

{# A timestamp column as a moment: naive ones are meant in the declared zone, a date is its midnight there. #}
{% macro moment(expression, type, time_zone) %}{{ return(adapter.dispatch('moment', 'dbt_posthog_sync')(expression, type, time_zone)) }}{% endmacro %}
{% macro default__moment(expression, type, time_zone) %}
  {%- if type.family == 'timestamp_tz' -%}{{- return(expression) -}}{%- endif -%}
  {{- return("(cast(" ~ expression ~ " as timestamp) at time zone " ~ dbt_posthog_sync.literal(time_zone) ~ ")") -}}
{% endmacro %}

{# A moment as RFC 3339 text in UTC, without quotes. #}
{% macro moment_text(expression) %}{{ return(adapter.dispatch('moment_text', 'dbt_posthog_sync')(expression)) }}{% endmacro %}

{# JSON kept as text: line breaks are only white space there; NUL and halves of surrogate pairs, which PostHog's parser
   refuses, become U+FFFD; numbers that a double cannot hold become strings. #}
{% macro json_json_text(expression) %}{{ return(adapter.dispatch('json_json_text', 'dbt_posthog_sync')(expression)) }}{% endmacro %}
