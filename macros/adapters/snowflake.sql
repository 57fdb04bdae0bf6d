{# Snowflake. A statement that creates or drops a table commits what goes before it, so that each statement is taken as a
   transaction of its own. #}

{% macro snowflake__session_settings() %}
  {{- return(["alter session set timezone = 'UTC', statement_timeout_in_seconds = 0, week_start = 1, "
    ~ "timestamp_type_mapping = 'TIMESTAMP_NTZ', quoted_identifiers_ignore_case = false, json_indent = 0"]) -}}
{% endmacro %}

{% macro snowflake__transaction_statements() %}{{ return({}) }}{% endmacro %}

{# A backslash begins an escape. #}
{% macro snowflake__literal(text) %}{{ return("'" ~ (text | string | replace('\\', '\\\\') | replace("'", "''")) ~ "'") }}{% endmacro %}

{% macro snowflake__type_text() %}{{ return('varchar') }}{% endmacro %}
{% macro snowflake__type_hash() %}{{ return('number(20, 0)') }}{% endmacro %}
{% macro snowflake__type_moment() %}{{ return('timestamp_tz') }}{% endmacro %}

{% macro snowflake__type_key(type) %}
  {%- if type.family == 'text' -%}{{- return('varchar') -}}
  {%- elif type.family in ('integer', 'bigint') -%}{{- return('number(38, 0)') -}}{%- endif -%}
  {{- return(type.text | lower) -}}
{% endmacro %}

{# Semi-structured values are kept parsed; an array or object says nothing of its elements. #}
{% macro snowflake__type_names() %}
  {{- return({'variant': 'jsonb', 'object': 'jsonb', 'array': 'jsonb', 'fixed': 'decimal', 'decfloat': 'decimal'}) -}}
{% endmacro %}

{# Database, schema and name of a relation as the catalogue has them: in capitals where they are not quoted. #}
{% macro snowflake__parts(relation) %}
  {%- set parts = [] -%}
  {%- for part in (relation | string).split('.') -%}
    {%- do parts.append(part | replace('"', '') if part.startswith('"') else part | upper) -%}
  {%- endfor -%}
  {{- return(parts) -}}
{% endmacro %}

{% macro snowflake__describe_columns(relation) %}
  {%- set parts = dbt_posthog_sync.snowflake__parts(relation) -%}
  select column_name, case when data_type in ('NUMBER', 'DECIMAL', 'FIXED') then 'number(' || numeric_precision || ',' || numeric_scale || ')'
      else lower(data_type) end, collation_name is not null
  from {{ adapter.quote(parts[0]) }}.information_schema.columns
  where table_schema = {{ dbt_posthog_sync.literal(parts[1]) }} and table_name = {{ dbt_posthog_sync.literal(parts[2]) }}
  order by ordinal_position
{% endmacro %}

{% macro snowflake__read_tables_of(schema, prefix) %}
  select table_name from {{ adapter.quote(dbt_posthog_sync.target_database()) }}.information_schema.tables
  where upper(table_schema) = upper({{ dbt_posthog_sync.literal(schema) }}) and startswith(lower(table_name), {{ dbt_posthog_sync.literal(prefix | lower) }})
{% endmacro %}

{% macro snowflake__update_from(table, alias, values, source, source_alias, condition, guard) %}
  {{- return(dbt_posthog_sync.merged_update(table, alias, values, source, source_alias, condition, guard)) -}}
{% endmacro %}

{% macro snowflake__place_of(part, text) %}{{ return('position(' ~ dbt_posthog_sync.literal(part) ~ ', ' ~ text ~ ')') }}{% endmacro %}
{% macro snowflake__trimmed(text, characters) %}{{ return('trim(' ~ text ~ ', ' ~ characters ~ ')') }}{% endmacro %}
{% macro snowflake__numbering() %}{{ return('row_number() over (order by null)') }}{% endmacro %}
{% macro snowflake__certain(condition) %}{{ return('coalesce(' ~ condition ~ ', false)') }}{% endmacro %}

{% macro snowflake__shifted(moment, direction, number, unit) %}
  {{- return('dateadd(' ~ unit ~ ', ' ~ ('-' if direction == '-' else '') ~ number ~ ', ' ~ moment ~ ')') -}}
{% endmacro %}
{% macro snowflake__seconds_since(moment) %}datediff('second', {{ moment }}, {{ dbt_posthog_sync.clock() }}){% endmacro %}

{# --- hash --- #}

{# Snowflake's own hash of several values, nulls included (Snowflake documentation: HASH). It promises nothing between
   releases; the canary notices a change. #}
{% macro snowflake__hash_name() %}{{ return('snowflake hash of seed and columns') }}{% endmacro %}
{% macro snowflake__hash_canary() %}cast(hash(1, 'canary', cast(1.5 as number(10, 2)), null) as varchar){% endmacro %}

{% macro snowflake__row_hash(columns, seed) %}
  {%- set parts = [seed | string] -%}
  {%- for column in columns -%}
    {%- set expression = dbt_posthog_sync.model_column(column) -%}
    {%- do parts.append("hex_encode(" ~ dbt_posthog_sync.as_text(expression) ~ ")" if column.hash_as_text else expression) -%}
  {%- endfor -%}
  {{- return('hash(' ~ (parts | join(', ')) ~ ')') -}}
{% endmacro %}

{% macro snowflake__text_hash(expression) %}{{ return('hash(' ~ expression ~ ')') }}{% endmacro %}
{% macro snowflake__bucket(expression, buckets) %}{{ return('mod(abs(hash(' ~ expression ~ ')), ' ~ buckets ~ ')') }}{% endmacro %}
{% macro snowflake__part_of(expression, parts) %}{{ return('case when ' ~ expression ~ ' is not null then mod(abs(hash(' ~ expression ~ ')), ' ~ parts ~ ') end') }}{% endmacro %}

{% macro snowflake__uuid_of(seed) %}{{ return(dbt_posthog_sync.uuid_of_digest('md5(' ~ seed ~ ')')) }}{% endmacro %}

{% macro snowflake__is_marked(number, marks) %}{{ return("substr('" ~ marks ~ "', " ~ number ~ " + 1, 1) = '1'") }}{% endmacro %}
{% macro snowflake__position_list(positions) %}
  {{- return("(select cast(value as bigint) as position from table(split_to_table('" ~ positions ~ "', ','))) p") -}}
{% endmacro %}

{# Snowflake counts characters; one beyond U+FFFF has four bytes, and no other has. #}
{% macro snowflake__utf16_length(expression) %}
  {{- return("length(" ~ expression ~ ") + regexp_count(" ~ expression ~ ", '[\\\\x{10000}-\\\\x{10FFFF}]')") -}}
{% endmacro %}

{# --- JSON --- #}

{# A decimal is written without zeros at its end. #}
{% macro snowflake__canonical_text(expression, type) %}
  {%- set text = dbt_posthog_sync.as_text(expression) -%}
  {%- if type.family != 'decimal' -%}{{- return(text) -}}{%- endif -%}
  {{- return("case when contains(" ~ text ~ ", '.') then rtrim(rtrim(" ~ text ~ ", '0'), '.') else " ~ text ~ " end") -}}
{% endmacro %}

{% macro snowflake__json_text(expression) %}
  {{- return("to_json(to_variant(replace(" ~ expression ~ ", char(0), char(65533))))") -}}
{% endmacro %}

{# Its patterns have no groups without a number, so that the one that is meant has another. #}
{% macro snowflake__first_match(expression, pattern) %}
  {%- set wanted = [] -%}
  {%- for piece in pattern.split('(')[1:] -%}{%- if not piece.startswith('?:') -%}{%- do wanted.append(loop.index) -%}{%- endif -%}{%- endfor -%}
  {{- return("nullif(regexp_substr(" ~ expression ~ ", " ~ dbt_posthog_sync.literal(pattern | replace('(?:', '(')) ~ ", 1, 1, 'e', "
    ~ wanted[0] ~ "), '')") -}}
{% endmacro %}

{% macro snowflake__digits(text) %}
  {{- return("trim(regexp_replace(regexp_replace(" ~ text ~ ", '[eE].*$', ''), '[^0-9]', ''), '0')") -}}
{% endmacro %}

{# 15 significant digits survive a double. #}
{% macro snowflake__json_decimal(expression, type, time_zone) %}
  {%- set text = dbt_posthog_sync.as_text(expression) -%}
  {%- if type.digits and type.digits <= 15 -%}{{- return(text) -}}{%- endif -%}
  {{- return("case when (abs(" ~ expression ~ ") <= 9007199254740992 and " ~ expression ~ " = trunc(" ~ expression ~ "))"
    ~ " or length(" ~ dbt_posthog_sync.snowflake__digits(text) ~ ") <= 15 then " ~ text
    ~ " when " ~ expression ~ " is not null then '\"' || " ~ text ~ " || '\"' end") -}}
{% endmacro %}

{# As JSON has it, with all digits; a cast to text has fifteen of them. #}
{% macro snowflake__json_float(expression, type, time_zone) %}
  {{- return("case when " ~ expression ~ " not in ('NaN'::float, 'inf'::float, '-inf'::float) then to_json(to_variant(" ~ expression ~ ")) end") -}}
{% endmacro %}

{% macro snowflake__json_date(expression, type, time_zone) %}
  {{- return("case when " ~ expression ~ " between '0001-01-01'::date and '9999-12-31'::date then '\"' || to_char(" ~ expression ~ ", 'YYYY-MM-DD') || '\"' end") -}}
{% endmacro %}

{# A value that no zone can shift, because it lies outside the years 1 to 9999, is no moment. #}
{% macro snowflake__moment(expression, type, time_zone) %}
  {%- if type.family == 'timestamp_tz' -%}{{- return('to_timestamp_tz(' ~ expression ~ ')') -}}{%- endif -%}
  {%- set local = 'cast(' ~ expression ~ ' as timestamp_ntz)' -%}
  {{- return("to_timestamp_tz(convert_timezone(" ~ dbt_posthog_sync.literal(time_zone) ~ ", 'UTC', case when " ~ dbt_posthog_sync.snowflake__is_possible(local)
    ~ " then " ~ local ~ " end))") -}}
{% endmacro %}

{% macro snowflake__is_possible(moment) %}
  {{- return("(year(" ~ moment ~ ") between 1 and 9999)") -}}
{% endmacro %}

{# A moment in UTC, without zone. #}
{% macro snowflake__utc(moment) %}{{ return("cast(convert_timezone('UTC', " ~ moment ~ ") as timestamp_ntz)") }}{% endmacro %}

{% macro snowflake__has_time(expression, type, time_zone) %}
  {{- return(dbt_posthog_sync.snowflake__is_possible(dbt_posthog_sync.snowflake__utc(dbt_posthog_sync.moment(expression, type, time_zone)))) -}}
{% endmacro %}

{% macro snowflake__json_timestamp(expression, type, time_zone) %}
  {{- return("case when " ~ dbt_posthog_sync.snowflake__has_time(expression, type, time_zone) ~ " then '\"' || "
    ~ dbt_posthog_sync.moment_text(dbt_posthog_sync.moment(expression, type, time_zone)) ~ " || '\"' end") -}}
{% endmacro %}

{% macro snowflake__day_text(expression, type, time_zone) %}
  {{- return("case when " ~ dbt_posthog_sync.snowflake__has_time(expression, type, time_zone) ~ " then to_char("
    ~ dbt_posthog_sync.snowflake__utc(dbt_posthog_sync.moment(expression, type, time_zone)) ~ ", 'YYYY-MM-DD') end") -}}
{% endmacro %}

{# Without zeros at the end of a fraction, and without a fraction where there is none. #}
{% macro snowflake__moment_text(expression) %}
  {{- return("rtrim(rtrim(to_char(" ~ dbt_posthog_sync.snowflake__utc(expression) ~ ", 'YYYY-MM-DD\"T\"HH24:MI:SS.FF6'), '0'), '.') || 'Z'") -}}
{% endmacro %}

{# Numbers inside that a double cannot hold, and NUL, go out as they are kept. #}
{% macro snowflake__json_json(expression, type, time_zone) %}
  {{- return("nullif(replace(to_json(to_variant(" ~ expression ~ ")), '\\\\u0000', '\\\\ufffd'), 'null')") -}}
{% endmacro %}

{% macro snowflake__json_member(expression, name) %}
  {{- return("json_extract_path_text(to_json(to_variant(" ~ expression ~ ")), " ~ dbt_posthog_sync.literal(name) ~ ")") -}}
{% endmacro %}

{% macro snowflake__rows_of_json(rows, columns) %}
  (select {% for number in range(columns) %}cast(j.value[{{ number }}] as varchar) as c{{ number }}{{ ', ' if not loop.last }}{% endfor %}
   from table(flatten(parse_json({{ dbt_posthog_sync.literal(rows) }}))) j)
{%- endmacro %}
