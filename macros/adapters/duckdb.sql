{# DuckDB 1.1 and later. One process holds the file, so the file's own lock is the lease. #}

{% macro duckdb__session_settings() %}{{ return(["set timezone = 'UTC'"]) }}{% endmacro %}

{# Whoever held the lease before us is dead: the file admits one process. #}
{% macro duckdb__lease_is_dead(seconds) %}{{ return('true') }}{% endmacro %}

{% macro duckdb__admits_other_processes() %}{{ return(false) }}{% endmacro %}

{% macro duckdb__type_text() %}{{ return('varchar') }}{% endmacro %}
{% macro duckdb__type_hash() %}{{ return('ubigint') }}{% endmacro %}

{% macro duckdb__type_key(type) %}
  {%- if type.family in ('text', 'enum') -%}{{- return('varchar') -}}
  {%- elif type.family == 'integer' -%}{{- return('bigint') -}}
  {%- elif type.family == 'uuid' -%}{{- return('uuid') -}}{%- endif -%}
  {{- return(type.text | lower) -}}
{% endmacro %}

{% macro duckdb__describe_columns(relation) %}
  select column_name, column_type, false from (describe select * from {{ relation }})
{% endmacro %}

{# --- hash --- #}

{# DuckDB promises no stability between versions; the canary notices a change. #}
{% macro duckdb__hash_name() %}{{ return('duckdb hash') }}{% endmacro %}
{% macro duckdb__hash_canary() %}cast(hash(cast(1 as bigint), 'canary', cast(1.5 as decimal(10,2)), null) as varchar){% endmacro %}

{% macro duckdb__row_hash(columns) %}
  {%- if not columns -%}{{- return('cast(0 as ubigint)') -}}{%- endif -%}
  {%- set parts = [] -%}
  {%- for column in columns -%}
    {%- set expression = dbt_posthog_sync.model_column(column) -%}
    {%- do parts.append('cast(' ~ expression ~ ' as varchar)' if column.hash_as_text else expression) -%}
  {%- endfor -%}
  {{- return('hash(' ~ (parts | join(', ')) ~ ')') -}}
{% endmacro %}

{% macro duckdb__text_hash(expression) %}{{ return('hash(' ~ expression ~ ')') }}{% endmacro %}

{% macro duckdb__bucket(expression, buckets) %}{{ return('(hash(' ~ expression ~ ') % ' ~ buckets ~ ')') }}{% endmacro %}

{% macro duckdb__uuid_of(seed) %}
  {%- set h = 'md5(' ~ seed ~ ')' -%}
  {{- return("(substr(" ~ h ~ ", 1, 8) || '-' || substr(" ~ h ~ ", 9, 4) || '-5' || substr(" ~ h ~ ", 14, 3) || '-8' || substr("
    ~ h ~ ", 18, 3) || '-' || substr(" ~ h ~ ", 21, 12))") -}}
{% endmacro %}

{% macro duckdb__position_list(positions) %}
  {{- return("(select unnest([" ~ positions ~ "]) as position) p") -}}
{% endmacro %}

{% macro duckdb__byte_length(expression) %}strlen({{ expression }}){% endmacro %}

{# --- JSON --- #}

{% macro duckdb__json_text(expression) %}
  {{- return("cast(to_json(replace(" ~ expression ~ ", chr(0), chr(65533))) as varchar)") -}}
{% endmacro %}

{% macro duckdb__first_match(expression, pattern) %}
  {{- return("nullif(regexp_extract(" ~ expression ~ ", " ~ dbt_posthog_sync.literal(pattern) ~ ", 1), '')") -}}
{% endmacro %}

{# 15 significant digits survive a double. #}
{% macro duckdb__json_decimal(expression, type, time_zone) %}
  {%- set text = 'cast(' ~ expression ~ ' as varchar)' -%}
  {%- if type.digits and type.digits <= 15 -%}{{- return(text) -}}{%- endif -%}
  {%- set digits = "ltrim(regexp_replace(" ~ text ~ ", '[^0-9]', '', 'g'), '0')" -%}
  {{- return("case when (abs(" ~ expression ~ ") <= 9007199254740992 and " ~ expression ~ " = trunc(" ~ expression ~ "))"
    ~ " or length(rtrim(" ~ digits ~ ", '0')) <= 15 then " ~ text
    ~ " when " ~ expression ~ " is not null then '\"' || " ~ text ~ " || '\"' end") -}}
{% endmacro %}

{% macro duckdb__json_float(expression, type, time_zone) %}
  {{- return("case when isfinite(" ~ expression ~ ") then cast(" ~ expression ~ " as varchar) end") -}}
{% endmacro %}

{% macro duckdb__json_date(expression, type, time_zone) %}
  {{- return("case when " ~ expression ~ " between date '0001-01-01' and date '9999-12-31' then '\"' || strftime(" ~ expression ~ ", '%Y-%m-%d') || '\"' end") -}}
{% endmacro %}

{% macro duckdb__json_timestamp(expression, type, time_zone) %}
  {%- if type.family == 'timestamp' and time_zone == 'UTC' -%}
    {%- set utc = 'cast(' ~ expression ~ ' as timestamp)' -%}
  {%- else -%}
    {%- set utc = '(' ~ dbt_posthog_sync.moment(expression, type, time_zone) ~ " at time zone 'UTC')" -%}
  {%- endif -%}
  {{- return("case when isfinite(" ~ utc ~ ") and " ~ utc ~ " >= timestamp '0001-01-01 00:00:00' and year(" ~ utc ~ ") <= 9999 then '\"' || "
    ~ dbt_posthog_sync.duckdb__utc_text(utc) ~ " || '\"' end") -}}
{% endmacro %}

{% macro duckdb__moment_text(expression) %}
  {{- return(dbt_posthog_sync.duckdb__utc_text('(' ~ expression ~ " at time zone 'UTC')")) -}}
{% endmacro %}

{% macro duckdb__utc_text(utc) %}
  {{- return("rtrim(rtrim(strftime(" ~ utc ~ ", '%Y-%m-%dT%H:%M:%S.%f'), '0'), '.') || 'Z'") -}}
{% endmacro %}

{% macro duckdb__json_json(expression, type, time_zone) %}{{ return(dbt_posthog_sync.duckdb__json_json_text(expression, type, time_zone)) }}{% endmacro %}

{% macro duckdb__json_json_text(expression, type, time_zone) %}
  {%- set text = 'cast(' ~ expression ~ ' as varchar)' -%}
  {%- set flat = "translate(" ~ text ~ ", chr(10) || chr(13), '  ')" -%}
  {{- return(dbt_posthog_sync.duckdb__safe_numbers(dbt_posthog_sync.duckdb__safe_escapes(flat))) -}}
{% endmacro %}

{# RE2 has no look-around, so escapes are taken apart into a list first: pairs of surrogates stay, halves and NUL go. #}
{% macro duckdb__safe_escapes(text) %}
  {%- set token = "'\\\\u[dD][89abAB][0-9a-fA-F]{2}\\\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\\\u[0-9a-fA-F]{4}|\\\\[^u]|[^\\\\]+'" -%}
  {{- return("case when contains(" ~ text ~ ", '\\u') then array_to_string([case when regexp_full_match(t, '\\\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})')"
    ~ " then '\\ufffd' else t end for t in regexp_extract_all(" ~ text ~ ", " ~ token ~ ")], '') else " ~ text ~ " end") -}}
{% endmacro %}

{# Numbers inside a document that a double cannot hold become strings. Only a document that has a long number, or an
   exponent, is taken apart. #}
{% macro duckdb__safe_numbers(text) %}
  {%- set token = "'\"(?:[^\"\\\\]|\\\\.)*\"|-?[0-9][0-9.eE+-]*|[^\"0-9-]+|-'" -%}
  {%- set digits = "ltrim(regexp_replace(regexp_replace(t, '[eE].*$', ''), '[^0-9]', '', 'g'), '0')" -%}
  {{- return("case when regexp_matches(" ~ text ~ ", '[0-9.]{16}|[0-9][eE][-+]?[0-9]{3}') then array_to_string([case"
    ~ " when not regexp_matches(t, '^-?[0-9]') then t"
    ~ " when regexp_matches(t, '[eE]') then case when regexp_matches(t, '[eE][+]?0*[0-9]{1,2}$') or regexp_matches(t, '[eE]-') then t else '\"' || t || '\"' end"
    ~ " when regexp_matches(t, '^-?[0-9]{1,16}$') and abs(cast(t as hugeint)) <= 9007199254740992 then t"
    ~ " when length(rtrim(" ~ digits ~ ", case when contains(t, '.') then '0' else '' end)) <= 15 then t"
    ~ " else '\"' || t || '\"' end for t in regexp_extract_all(" ~ text ~ ", " ~ token ~ ")], '') else " ~ text ~ " end") -}}
{% endmacro %}

{% macro duckdb__json_array(expression, type, time_zone) %}
  {%- set name = 'e' ~ (type.text | length) -%}
  {{- return("case when " ~ expression ~ " is not null then '[' || array_to_string([coalesce(" ~ dbt_posthog_sync.json_of(name, type.element, time_zone)
    ~ ", 'null') for " ~ name ~ " in " ~ expression ~ "], ',') || ']' end") -}}
{% endmacro %}

{% macro duckdb__json_struct(expression, type, time_zone) %}
  {%- set parts = [] -%}
  {%- for field in type.fields -%}
    {%- set name = ',' ~ (field.name | tojson) ~ ':' -%}
    {%- set inner = expression ~ '.' ~ adapter.quote(field.name) -%}
    {%- do parts.append(dbt_posthog_sync.literal(name) ~ " || coalesce(" ~ dbt_posthog_sync.json_of(inner, field.type, time_zone) ~ ", 'null')") -%}
  {%- endfor -%}
  {{- return("case when " ~ expression ~ " is not null then '{' || substr(" ~ (parts | join(' || ')) ~ ", 2) || '}' end") -}}
{% endmacro %}

{% macro duckdb__json_map(expression, type, time_zone) %}
  {%- set name = 'v' ~ (type.text | length) -%}
  {{- return("case when " ~ expression ~ " is not null then '{' || array_to_string([" ~ dbt_posthog_sync.json_text('cast(' ~ name ~ '.key as varchar)')
    ~ " || ':' || coalesce(" ~ dbt_posthog_sync.json_of(name ~ '.value', type.element, time_zone) ~ ", 'null') for " ~ name
    ~ " in map_entries(" ~ expression ~ ")], ',') || '}' end") -}}
{% endmacro %}
