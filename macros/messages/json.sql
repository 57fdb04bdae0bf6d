{# JSON of one value, by the family of its type; null where the value is null or has no JSON form (NaN, infinity).
   The parts are text, ready to be joined: no JSON value is built and printed again. #}

{% macro json_of(expression, type, time_zone='UTC') %}
  {%- if type.family == 'boolean' -%}
    {{- return("case when " ~ expression ~ " then 'true' when not " ~ expression ~ " then 'false' end") -}}
  {%- elif type.family == 'integer' -%}
    {{- return(dbt_posthog_sync.as_text(expression)) -}}
  {%- elif type.family == 'bigint' -%}
    {{- return(dbt_posthog_sync.json_bigint(expression, type)) -}}
  {%- elif type.family in ('text', 'enum') -%}
    {{- return(dbt_posthog_sync.json_text(dbt_posthog_sync.canonical_text(expression, type))) -}}
  {%- elif type.family in ('uuid', 'time') -%}
    {{- return("'\"' || " ~ dbt_posthog_sync.as_text(expression) ~ " || '\"'") -}}
  {%- elif type.family in ('timestamp', 'timestamp_tz') -%}
    {{- return(adapter.dispatch('json_timestamp', 'dbt_posthog_sync')(expression, type, time_zone)) -}}
  {%- elif type.family == 'array' -%}
    {{- return(adapter.dispatch('json_array', 'dbt_posthog_sync')(expression, type, time_zone)) -}}
  {%- elif type.family == 'decimal' -%}
    {{- return(adapter.dispatch('json_decimal', 'dbt_posthog_sync')(expression, type, time_zone)) -}}
  {%- elif type.family == 'float' -%}
    {{- return(adapter.dispatch('json_float', 'dbt_posthog_sync')(expression, type, time_zone)) -}}
  {%- elif type.family == 'interval' -%}
    {{- return(adapter.dispatch('json_interval', 'dbt_posthog_sync')(expression, type, time_zone)) -}}
  {%- elif type.family == 'date' -%}
    {{- return(adapter.dispatch('json_date', 'dbt_posthog_sync')(expression, type, time_zone)) -}}
  {%- elif type.family == 'json' -%}
    {{- return(adapter.dispatch('json_json', 'dbt_posthog_sync')(expression, type, time_zone)) -}}
  {%- elif type.family == 'json_text' -%}
    {{- return(adapter.dispatch('json_json_text', 'dbt_posthog_sync')(expression, type, time_zone)) -}}
  {%- elif type.family == 'struct' -%}
    {{- return(adapter.dispatch('json_struct', 'dbt_posthog_sync')(expression, type, time_zone)) -}}
  {%- elif type.family == 'map' -%}
    {{- return(adapter.dispatch('json_map', 'dbt_posthog_sync')(expression, type, time_zone)) -}}
  {%- endif -%}
{% endmacro %}

{# Warehouses without such types need no way to write them. #}
{% macro default__json_struct(expression, type, time_zone) %}{{ exceptions.raise_compiler_error('This warehouse has no structs.') }}{% endmacro %}
{% macro default__json_map(expression, type, time_zone) %}{{ exceptions.raise_compiler_error('This warehouse has no maps.') }}{% endmacro %}

{# The one text of a value that names somebody: `1` and `1.00` are the same person. #}
{% macro canonical_text(expression, type) %}{{ return(adapter.dispatch('canonical_text', 'dbt_posthog_sync')(expression, type)) }}{% endmacro %}
{% macro default__canonical_text(expression, type) %}{{ return(dbt_posthog_sync.as_text(expression)) }}{% endmacro %}

{# A text as a JSON string. #}
{% macro json_text(expression) %}{{ return(adapter.dispatch('json_text', 'dbt_posthog_sync')(expression)) }}{% endmacro %}

{# The text of a column as a JSON string: digits need no escaping. #}
{% macro json_of_text(text, type) %}
  {%- if type.family in ('integer', 'bigint', 'uuid') -%}{{- return("'\"' || " ~ text ~ " || '\"'") -}}{%- endif -%}
  {{- return(dbt_posthog_sync.json_text(text)) -}}
{% endmacro %}

{# Integers beyond 2^53 become strings: a double, which is what PostHog and browsers read, cannot tell them from their neighbours. #}
{% macro json_bigint(expression, type) %}
  {%- set is_exact = expression ~ ' between -9007199254740992 and 9007199254740992' -%}
  {%- if type.text | lower | first == 'u' -%}{%- set is_exact = expression ~ ' <= cast(9007199254740992 as ' ~ type.text ~ ')' -%}{%- endif -%}
  {{- return("case when " ~ is_exact ~ " then " ~ dbt_posthog_sync.as_text(expression)
    ~ " when " ~ expression ~ " is not null then '\"' || " ~ dbt_posthog_sync.as_text(expression) ~ " || '\"' end") -}}
{% endmacro %}

{# A timestamp column as a moment: naive ones are meant in the declared zone, a date is its midnight there. #}
{% macro moment(expression, type, time_zone) %}{{ return(adapter.dispatch('moment', 'dbt_posthog_sync')(expression, type, time_zone)) }}{% endmacro %}
{% macro default__moment(expression, type, time_zone) %}
  {%- if type.family == 'timestamp_tz' -%}{{- return(expression) -}}{%- endif -%}
  {{- return("(cast(" ~ expression ~ " as timestamp) at time zone " ~ dbt_posthog_sync.literal(time_zone) ~ ")") -}}
{% endmacro %}

{# The row's time as a JSON string, always with hour and zone: PostHog takes no bare date as a time. #}
{% macro row_time(sync) %}
  {{- return(adapter.dispatch('json_timestamp', 'dbt_posthog_sync')(dbt_posthog_sync.model_column(sync.timestamp), sync.timestamp.type, sync.time_zone)) -}}
{% endmacro %}

{# True where `row_time` is not null, which need not be built to know. #}
{% macro has_time(sync) %}
  {{- return(adapter.dispatch('has_time', 'dbt_posthog_sync')(dbt_posthog_sync.model_column(sync.timestamp), sync.timestamp.type, sync.time_zone)) -}}
{% endmacro %}

{# The row's day in UTC as text; null where `row_time` is. #}
{% macro row_day(sync) %}
  {{- return(adapter.dispatch('day_text', 'dbt_posthog_sync')(dbt_posthog_sync.model_column(sync.timestamp), sync.timestamp.type, sync.time_zone)) -}}
{% endmacro %}

{# A moment as RFC 3339 text in UTC, without quotes. #}
{% macro moment_text(expression) %}{{ return(adapter.dispatch('moment_text', 'dbt_posthog_sync')(expression)) }}{% endmacro %}

{# JSON kept as text goes out as it was written, but for what PostHog's parser refuses or misreads: NUL and halves of
   surrogate pairs become U+FFFD, numbers that a double cannot hold become strings, line breaks and tabs become spaces,
   and a JSON null is null. #}
{% macro json_json_text(expression, type, time_zone) %}
  {{- return(adapter.dispatch('json_json_text', 'dbt_posthog_sync')(expression, type, time_zone)) -}}
{% endmacro %}

{# White space of one document as spaces; inside strings JSON allows no such character. #}
{% macro json_spaces() %}{{ return("chr(9) || chr(10) || chr(13), '   '") }}{% endmacro %}

{# Digits of a number that count: no sign, point, exponent, no zeros at either end. #}
{% macro significant_digits(text) %}
  {{- return("trim(both '0' from regexp_replace(regexp_replace(" ~ text ~ ", '[eE].*$', ''), '[^0-9]', '', 'g'))") -}}
{% endmacro %}

{# True for a whole number that stays a number: up to 2^53, or so round that 15 digits say it all. #}
{% macro is_plain_integer(is_short, magnitude, text) %}
  {{- return("((" ~ is_short ~ " and " ~ magnitude ~ " <= 9007199254740992) or (length(" ~ text ~ ") <= 308 and length("
    ~ dbt_posthog_sync.significant_digits(text) ~ ") <= 15))") -}}
{% endmacro %}
