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

{% macro duckdb__row_hash(columns, seed) %}
  {%- set parts = ['cast(' ~ seed ~ ' as bigint)'] -%}
  {%- for column in columns -%}
    {%- set expression = dbt_posthog_sync.model_column(column) -%}
    {%- do parts.append('cast(' ~ expression ~ ' as varchar)' if column.hash_as_text else expression) -%}
  {%- endfor -%}
  {{- return('hash(' ~ (parts | join(', ')) ~ ')') -}}
{% endmacro %}

{% macro duckdb__text_hash(expression) %}{{ return('hash(' ~ expression ~ ')') }}{% endmacro %}

{# An integer, because a lane reckoned from the hash's own type would be a hugeint, and these are slow to fetch. #}
{% macro duckdb__bucket(expression, buckets) %}{{ return('cast(hash(' ~ expression ~ ') % ' ~ buckets ~ ' as integer)') }}{% endmacro %}

{% macro duckdb__uuid_of(seed) %}{{ return(dbt_posthog_sync.uuid_of_digest('md5(' ~ seed ~ ')')) }}{% endmacro %}

{# Each `||` writes all that came before it once more. #}
{% macro duckdb__concatenation(parts) %}{{ return('concat(' ~ (parts | join(', ')) ~ ')') }}{% endmacro %}

{# The engine works in the process that carries its rows away: with a thread for every processor it keeps the carriers from
   their work. Another number that a profile sets stays. #}
{% macro duckdb__stream_settings(processors) %}
  {{- return(["set threads = case when current_setting('threads') = " ~ processors ~ " then " ~ [processors - 1, 1] | max
    ~ " else current_setting('threads') end"]) -}}
{% endmacro %}

{# Bytes need no decoding here and no encoding in Python. #}
{% macro duckdb__stream_statement(select) %}
  select position, lane, encode(message) from ({{ select }}) s
{% endmacro %}

{% macro duckdb__is_marked(number, marks) %}
  {{- return("get_bit(cast('" ~ marks ~ "' as bit), cast(" ~ number ~ " as integer)) = 1") -}}
{% endmacro %}

{% macro duckdb__position_list(positions) %}
  {{- return("(select unnest(cast(string_split('" ~ positions ~ "', ',') as bigint[])) as position) p") -}}
{% endmacro %}

{% macro duckdb__byte_length(expression) %}strlen({{ expression }}){% endmacro %}

{% macro duckdb__utf16_length(expression) %}
  {{- return("length(" ~ expression ~ ") + length(regexp_replace(" ~ expression ~ ", '[^\\x{10000}-\\x{10FFFF}]', '', 'g'))") -}}
{% endmacro %}

{# A decimal is written without zeros at its end. #}
{% macro duckdb__canonical_text(expression, type) %}
  {%- set text = dbt_posthog_sync.as_text(expression) -%}
  {%- if type.family != 'decimal' -%}{{- return(text) -}}{%- endif -%}
  {{- return("case when contains(" ~ text ~ ", '.') then rtrim(rtrim(" ~ text ~ ", '0'), '.') else " ~ text ~ " end") -}}
{% endmacro %}

{# --- JSON --- #}

{% macro duckdb__json_text(expression) %}
  {{- return("cast(to_json(case when contains(" ~ expression ~ ", chr(0)) then replace(" ~ expression ~ ", chr(0), chr(65533)) else "
    ~ expression ~ " end) as varchar)") -}}
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

{# ISO 8601, as Postgres writes it: P1Y2M3DT4H5M6.5S. #}
{% macro duckdb__json_interval(expression, type, time_zone) %}
  {%- set part = dbt_posthog_sync.duckdb__interval_part -%}
  {%- set micros = "datepart('microsecond', " ~ expression ~ ")" -%}
  {%- set seconds = "case when " ~ micros ~ " <> 0 then rtrim(rtrim(printf('%.6f', " ~ micros ~ " / 1e6), '0'), '.') || 'S' else '' end" -%}
  {%- set day = ["'P'", part(expression, 'year', 'Y'), part(expression, 'month', 'M'), part(expression, 'day', 'D')] | join(' || ') -%}
  {%- set time = [part(expression, 'hour', 'H'), part(expression, 'minute', 'M'), seconds] | join(' || ') -%}
  {{- return("case when " ~ expression ~ " is not null then '\"' || coalesce(nullif(" ~ day ~ " || coalesce('T' || nullif(" ~ time
    ~ ", ''), ''), 'P'), 'PT0S') || '\"' end") -}}
{% endmacro %}

{# One unit of an interval with its letter; nothing where it is zero. #}
{% macro duckdb__interval_part(expression, unit, letter) %}
  {%- set part = "datepart('" ~ unit ~ "', " ~ expression ~ ")" -%}
  {{- return("case when " ~ part ~ " <> 0 then " ~ part ~ " || '" ~ letter ~ "' else '' end") -}}
{% endmacro %}

{% macro duckdb__json_date(expression, type, time_zone) %}
  {{- return("case when " ~ expression ~ " between date '0001-01-01' and date '9999-12-31' then '\"' || strftime(" ~ expression ~ ", '%Y-%m-%d') || '\"' end") -}}
{% endmacro %}

{# A value that no zone can shift, because it lies outside the years 1 to 9999, is no moment. #}
{% macro duckdb__moment(expression, type, time_zone) %}
  {%- if type.family == 'timestamp_tz' -%}{{- return(expression) -}}{%- endif -%}
  {%- set lowest, end = ("date '0001-01-01'", "date '9999-12-31'") if type.family == 'date'
      else ("timestamp '0001-01-01 00:00:00'", "timestamp '9999-12-31 23:59:59.999999'") -%}
  {%- set local = expression if type.family == 'date' else 'try_cast(' ~ expression ~ ' as timestamp)' -%}
  {{- return("(cast(case when " ~ local ~ " between " ~ lowest ~ " and " ~ end ~ " then " ~ local ~ " end as timestamp) at time zone "
    ~ dbt_posthog_sync.literal(time_zone) ~ ")") -}}
{% endmacro %}

{# A timestamp column in UTC, without zone. A moment is microseconds in UTC already: `at time zone` asks a calendar. #}
{% macro duckdb__utc(expression, type, time_zone) %}
  {%- if type.family == 'timestamp' and time_zone == 'UTC' -%}{{- return('try_cast(' ~ expression ~ ' as timestamp)') -}}{%- endif -%}
  {{- return('make_timestamp(epoch_us(' ~ dbt_posthog_sync.moment(expression, type, time_zone) ~ '))') -}}
{% endmacro %}

{% macro duckdb__has_time(expression, type, time_zone) %}
  {%- if type.family == 'timestamp_tz' -%}
    {{- return('(' ~ expression ~ " between timestamptz '0001-01-01 00:00:00+00' and timestamptz '9999-12-31 23:59:59.999999+00')") -}}
  {%- endif -%}
  {%- set utc = dbt_posthog_sync.duckdb__utc(expression, type, time_zone) -%}
  {{- return("(isfinite(" ~ utc ~ ") and " ~ utc ~ " >= timestamp '0001-01-01 00:00:00' and year(" ~ utc ~ ") <= 9999)") -}}
{% endmacro %}

{% macro duckdb__json_timestamp(expression, type, time_zone) %}
  {{- return("case when " ~ dbt_posthog_sync.duckdb__has_time(expression, type, time_zone) ~ " then '\"' || "
    ~ dbt_posthog_sync.duckdb__utc_text(dbt_posthog_sync.duckdb__utc(expression, type, time_zone)) ~ " || '\"' end") -}}
{% endmacro %}

{% macro duckdb__day_text(expression, type, time_zone) %}
  {{- return("case when " ~ dbt_posthog_sync.duckdb__has_time(expression, type, time_zone) ~ " then strftime("
    ~ dbt_posthog_sync.duckdb__utc(expression, type, time_zone) ~ ", '%Y-%m-%d') end") -}}
{% endmacro %}

{% macro duckdb__moment_text(expression) %}
  {{- return(dbt_posthog_sync.duckdb__utc_text('(' ~ expression ~ " at time zone 'UTC')")) -}}
{% endmacro %}

{# A cast writes a fraction without zeros at its end, and none where there is none. #}
{% macro duckdb__utc_text(utc) %}
  {{- return("replace(cast(" ~ utc ~ " as varchar), ' ', 'T') || 'Z'") -}}
{% endmacro %}

{% macro duckdb__json_json(expression, type, time_zone) %}{{ return(dbt_posthog_sync.duckdb__json_json_text(expression, type, time_zone)) }}{% endmacro %}

{% macro duckdb__json_json_text(expression, type, time_zone) %}
  {%- set text = 'cast(' ~ expression ~ ' as varchar)' -%}
  {%- set flat = "case when contains(" ~ text ~ ", chr(9)) or contains(" ~ text ~ ", chr(10)) or contains(" ~ text ~ ", chr(13)) then translate("
      ~ text ~ ", " ~ dbt_posthog_sync.json_spaces() ~ ") else " ~ text ~ " end" -%}
  {{- return("nullif(trim(" ~ dbt_posthog_sync.duckdb__safe_values(dbt_posthog_sync.duckdb__safe_escapes(flat)) ~ "), 'null')") -}}
{% endmacro %}

{# RE2 has no look-around, so escapes are taken apart into a list first: pairs of surrogates stay, halves and NUL go. #}
{% macro duckdb__safe_escapes(text) %}
  {%- set token = "'\\\\u[dD][89abAB][0-9a-fA-F]{2}\\\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\\\u[0-9a-fA-F]{4}|\\\\[^u]|[^\\\\]+'" -%}
  {{- return("case when contains(" ~ text ~ ", '\\u') then array_to_string([case when regexp_full_match(t, '\\\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})')"
    ~ " then '\\ufffd' else t end for t in regexp_extract_all(" ~ text ~ ", " ~ token ~ ")], '') else " ~ text ~ " end") -}}
{% endmacro %}

{# Numbers inside a document that a double cannot hold become strings. DuckDB also takes NaN, Infinity and a comma before
   a closing bracket for JSON, which nobody else does. Only a document that may have one of these is taken apart. #}
{% macro duckdb__safe_values(text) %}
  {%- set suspicious = "'[0-9.]{16}|[0-9][eE][-+]?[0-9]{3}|,\\s*[\\]}]|(?:^|[\\[:,\\s-])(?i:nan|inf|infinity)\\s*(?:$|[,\\]}])'" -%}
  {%- set token = "'\"(?:[^\"\\\\]|\\\\.)*\"|-?[0-9][0-9.eE+-]*|-?[A-Za-z]+|,\\s*[\\]}]|[^\"0-9A-Za-z,-]+|,|-'" -%}
  {%- set digits = dbt_posthog_sync.significant_digits -%}
  {{- return("case when regexp_matches(" ~ text ~ ", " ~ suspicious ~ ") then array_to_string([case"
    ~ " when regexp_matches(t, '^-?[A-Za-z]') then case when t in ('true', 'false', 'null') then t else 'null' end"
    ~ " when regexp_matches(t, '^,.') then right(t, 1)"
    ~ " when not regexp_matches(t, '^-?[0-9]') then t"
    ~ " when case when regexp_matches(t, '^-?[0-9]+$') then "
    ~ dbt_posthog_sync.is_plain_integer("length(t) <= 17", "abs(try_cast(t as hugeint))", "t")
    ~ " else " ~ digits("cast(try_cast(t as double) as varchar)") ~ " = " ~ digits("t") ~ " end then t"
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
    {%- set inner = expression ~ '.' ~ dbt_posthog_sync.quoted(field.name) -%}
    {%- do parts.append(dbt_posthog_sync.literal(name) ~ " || coalesce(" ~ dbt_posthog_sync.json_of(inner, field.type, time_zone) ~ ", 'null')") -%}
  {%- endfor -%}
  {{- return("case when " ~ expression ~ " is not null then '{' || substr(" ~ dbt_posthog_sync.joined(parts) ~ ", 2) || '}' end") -}}
{% endmacro %}

{% macro duckdb__json_map(expression, type, time_zone) %}
  {%- set name = 'v' ~ (type.text | length) -%}
  {{- return("case when " ~ expression ~ " is not null then '{' || array_to_string([" ~ dbt_posthog_sync.json_text('cast(' ~ name ~ '.key as varchar)')
    ~ " || ':' || coalesce(" ~ dbt_posthog_sync.json_of(name ~ '.value', type.element, time_zone) ~ ", 'null') for " ~ name
    ~ " in map_entries(" ~ expression ~ ")], ',') || '}' end") -}}
{% endmacro %}

{% macro duckdb__json_member(expression, name) %}
  {{- return("json_extract_string(" ~ expression ~ ", " ~ dbt_posthog_sync.literal('$."' ~ name ~ '"') ~ ")") -}}
{% endmacro %}

{% macro duckdb__rows_of_json(rows, columns) %}
  (select {% for number in range(columns) %}r ->> {{ number }} as c{{ number }}{{ ', ' if not loop.last }}{% endfor %}
   from (select unnest(cast({{ dbt_posthog_sync.literal(rows) }} as json[])) as r) j)
{%- endmacro %}

{% macro duckdb__part_of(expression, parts) %}{{ return('case when ' ~ expression ~ ' is not null then hash(' ~ expression ~ ') % ' ~ parts ~ ' end') }}{% endmacro %}
