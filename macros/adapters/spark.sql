{# Spark 3.5 and later, and what Databricks shares with it. The tables of the state are of a format that knows UPDATE, DELETE
   and MERGE: Delta Lake, or another by the variable `posthog_sync_file_format`. Each statement is a transaction of its own. #}

{# Casts that fail give null, and times are read and written in UTC. A type is told to its end. #}
{% macro spark__session_settings() %}
  {{- return(['set spark.sql.session.timeZone = UTC', 'set spark.sql.ansi.enabled = false',
    'set spark.sql.debug.maxToStringFields = 10000']) -}}
{% endmacro %}

{% macro spark__transaction_statements() %}{{ return({}) }}{% endmacro %}

{% macro spark__table_options(is_temporary) %}{{ return(' using ' ~ var('posthog_sync_file_format', 'delta')) }}{% endmacro %}
{% macro spark__primary_key() %}{{ return('') }}{% endmacro %}

{# A temporary view would be computed again at each look. #}
{% macro spark__temporary_kind() %}{{ return('table') }}{% endmacro %}
{% macro spark__temporary_table(name) %}{{ return(dbt_posthog_sync.named_temporary_table(name)) }}{% endmacro %}
{% macro spark__read_temporary_tables() %}
  show tables in {{ api.Relation.create(schema=target.schema).without_identifier() }} like '*{{ dbt_posthog_sync.process_suffix() }}'
{% endmacro %}
{% macro spark__read_tables_of(schema, prefix) %}
  show tables in {{ api.Relation.create(schema=schema).without_identifier() }} like '{{ prefix }}*'
{% endmacro %}
{% macro spark__table_name_column() %}{{ return(1) }}{% endmacro %}

{% macro spark__update_from(table, alias, values, source, source_alias, condition, guard) %}
  {{- return(dbt_posthog_sync.merged_update(table, alias, values, source, source_alias, condition, guard)) -}}
{% endmacro %}

{# A backslash begins an escape. #}
{% macro spark__literal(text) %}
  {{- return("'" ~ (text | string | replace('\\', '\\\\') | replace("'", "\\'")) ~ "'") -}}
{% endmacro %}

{% macro spark__type_text() %}{{ return('string') }}{% endmacro %}
{% macro spark__type_moment() %}{{ return('timestamp') }}{% endmacro %}
{% macro spark__type_double() %}{{ return('double') }}{% endmacro %}

{% macro spark__type_key(type) %}
  {%- if type.family in ('text', 'uuid') -%}{{- return('string') -}}
  {%- elif type.family in ('integer', 'bigint') -%}{{- return('bigint') -}}{%- endif -%}
  {{- return(type.text | lower) -}}
{% endmacro %}

{# `timestamp` is a moment; the other has the suffix. Intervals have no cast to a text of ISO 8601. #}
{% macro spark__type_names() %}{{ return({'timestamp': 'timestamptz', 'variant': 'jsonb', 'interval': 'unsupported'}) }}{% endmacro %}

{% macro spark__describe_columns(relation) %}describe table {{ relation }}{% endmacro %}

{% macro spark__place_of(part, text) %}{{ return('instr(' ~ text ~ ', ' ~ dbt_posthog_sync.literal(part) ~ ')') }}{% endmacro %}

{% macro spark__numbering() %}{{ return('row_number() over (order by 1)') }}{% endmacro %}

{% macro spark__seconds_since(moment) %}
  unix_timestamp({{ dbt_posthog_sync.clock() }}) - unix_timestamp({{ moment }})
{%- endmacro %}

{# --- hash --- #}

{# xxHash64 with the seed 42, an algorithm that does not change; how Spark feeds it a value, the canary watches. It passes
   nulls over, so that each column says first whether it has a value. #}
{% macro spark__hash_name() %}{{ return('spark xxhash64 of seed, columns and their nulls') }}{% endmacro %}
{% macro spark__hash_canary() %}cast(xxhash64(cast(1 as bigint), 'canary', cast(1.5 as decimal(10,2)), cast(null as string) is null) as string){% endmacro %}

{% macro spark__row_hash(columns, seed) %}
  {%- set parts = ['cast(' ~ seed ~ ' as bigint)'] -%}
  {%- for column in columns -%}
    {%- set expression = dbt_posthog_sync.model_column(column) -%}
    {%- set is_text = column.hash_as_text or dbt_posthog_sync.spark__has_no_hash(column.type) -%}
    {%- do parts.append(expression ~ ' is null') -%}
    {%- do parts.append(dbt_posthog_sync.as_text(expression) if is_text else expression) -%}
  {%- endfor -%}
  {{- return('xxhash64(' ~ (parts | join(', ')) ~ ')') -}}
{% endmacro %}

{# Maps and variants have none, and nulls inside arrays and structs are passed over as well. #}
{% macro spark__has_no_hash(type) %}{{ return(type.family in ('map', 'json', 'array', 'struct')) }}{% endmacro %}

{% macro spark__text_hash(expression) %}{{ return('xxhash64(' ~ expression ~ ')') }}{% endmacro %}
{% macro spark__bucket(expression, buckets) %}{{ return('pmod(xxhash64(' ~ expression ~ '), ' ~ buckets ~ ')') }}{% endmacro %}
{% macro spark__part_of(expression, parts) %}{{ return('case when ' ~ expression ~ ' is not null then pmod(xxhash64(' ~ expression ~ '), ' ~ parts ~ ') end') }}{% endmacro %}

{% macro spark__uuid_of(seed) %}{{ return(dbt_posthog_sync.uuid_of_digest('md5(' ~ seed ~ ')')) }}{% endmacro %}

{# Bytes are cut by counting, where a text is cut by looking at each character. #}
{% macro spark__is_marked(number, marks) %}
  {{- return("substring(cast('" ~ marks ~ "' as binary), cast(" ~ number ~ " as int) + 1, 1) = X'31'") -}}
{% endmacro %}

{% macro spark__position_list(positions) %}
  {{- return("(select cast(col as bigint) as position from (select explode(split('" ~ positions ~ "', ',')))) p") -}}
{% endmacro %}

{% macro spark__utf16_length(expression) %}
  {{- return("length(" ~ expression ~ ") + length(regexp_replace(" ~ expression ~ ", '[^\\\\x{10000}-\\\\x{10FFFF}]', ''))") -}}
{% endmacro %}

{# --- JSON --- #}

{# A decimal is written without zeros at its end. #}
{% macro spark__canonical_text(expression, type) %}
  {%- set text = dbt_posthog_sync.as_text(expression) -%}
  {%- if type.family != 'decimal' -%}{{- return(text) -}}{%- endif -%}
  {{- return("case when " ~ expression ~ " = 0 then '0' when instr(" ~ text ~ ", '.') > 0 and instr(" ~ text ~ ", 'E') = 0 then"
    ~ " rtrim('.', rtrim('0', " ~ text ~ ")) else " ~ text ~ " end") -}}
{% endmacro %}

{# As the one element of a list: its brackets end at the quotation marks, and only a null has none. #}
{% macro spark__json_text(expression) %}
  {{- return("nullif(trim(both '[]' from to_json(array(replace(" ~ expression ~ ", '\\u0000', '\\uFFFD')))), 'null')") -}}
{% endmacro %}

{% macro spark__first_match(expression, pattern) %}
  {{- return("nullif(regexp_extract(" ~ expression ~ ", " ~ dbt_posthog_sync.literal(pattern) ~ ", 1), '')") -}}
{% endmacro %}

{% macro spark__digits(text) %}
  {{- return("trim(both '0' from regexp_replace(regexp_replace(" ~ text ~ ", '[eE].*$', ''), '[^0-9]', ''))") -}}
{% endmacro %}

{# 15 significant digits survive a double. #}
{% macro spark__json_decimal(expression, type, time_zone) %}
  {%- set text = dbt_posthog_sync.as_text(expression) -%}
  {%- if type.digits and type.digits <= 15 -%}{{- return(text) -}}{%- endif -%}
  {{- return("case when (abs(" ~ expression ~ ") <= 9007199254740992 and " ~ expression ~ " = floor(" ~ expression ~ "))"
    ~ " or length(" ~ dbt_posthog_sync.spark__digits(text) ~ ") <= 15 then " ~ text
    ~ " when " ~ expression ~ " is not null then '\"' || " ~ text ~ " || '\"' end") -}}
{% endmacro %}

{# NaN is larger than infinity. #}
{% macro spark__json_float(expression, type, time_zone) %}
  {{- return("case when abs(" ~ expression ~ ") < double('Infinity') then " ~ dbt_posthog_sync.as_text(expression) ~ " end") -}}
{% endmacro %}

{% macro spark__json_date(expression, type, time_zone) %}
  {{- return("case when " ~ expression ~ " between date '0001-01-01' and date '9999-12-31' then '\"' || cast(" ~ expression ~ " as string) || '\"' end") -}}
{% endmacro %}

{# A value that no zone can shift, because it lies outside the years 1 to 9999, is no moment. Of an hour that clocks show
   twice, Spark means the first, and all others the second. #}
{% macro spark__moment(expression, type, time_zone) %}
  {%- if type.family == 'timestamp_tz' -%}{{- return(expression) -}}{%- endif -%}
  {%- set local = 'cast(' ~ expression ~ ' as timestamp)' -%}
  {%- set possible = "case when " ~ dbt_posthog_sync.spark__is_possible(local) ~ " then " ~ local ~ " end" -%}
  {%- if time_zone == 'UTC' -%}{{- return('(' ~ possible ~ ')') -}}{%- endif -%}
  {%- set zone = dbt_posthog_sync.literal(time_zone) -%}
  {%- set moment = 'to_utc_timestamp(' ~ possible ~ ', ' ~ zone ~ ')' -%}
  {{- return('(case when from_utc_timestamp(' ~ moment ~ " + interval '1' hour, " ~ zone ~ ') = ' ~ local ~ ' then ' ~ moment ~ " + interval '1' hour else "
    ~ moment ~ ' end)') -}}
{% endmacro %}

{% macro spark__is_possible(moment) %}
  {{- return("(" ~ moment ~ " >= timestamp '0001-01-01 00:00:00' and " ~ moment ~ " <= timestamp '9999-12-31 23:59:59.999999')") -}}
{% endmacro %}

{% macro spark__has_time(expression, type, time_zone) %}
  {{- return(dbt_posthog_sync.spark__is_possible(dbt_posthog_sync.moment(expression, type, time_zone))) -}}
{% endmacro %}

{% macro spark__json_timestamp(expression, type, time_zone) %}
  {{- return("case when " ~ dbt_posthog_sync.spark__has_time(expression, type, time_zone) ~ " then '\"' || "
    ~ dbt_posthog_sync.moment_text(dbt_posthog_sync.moment(expression, type, time_zone)) ~ " || '\"' end") -}}
{% endmacro %}

{% macro spark__day_text(expression, type, time_zone) %}
  {{- return("case when " ~ dbt_posthog_sync.spark__has_time(expression, type, time_zone) ~ " then cast(cast("
    ~ dbt_posthog_sync.moment(expression, type, time_zone) ~ " as date) as string) end") -}}
{% endmacro %}

{# A cast writes a fraction without zeros at its end, and none where there is none. #}
{% macro spark__moment_text(expression) %}{{ return("replace(cast(" ~ expression ~ " as string), ' ', 'T') || 'Z'") }}{% endmacro %}

{# A variant: numbers inside that a double cannot hold become strings, and NUL becomes U+FFFD. #}
{% macro spark__json_json(expression, type, time_zone) %}
  {%- set nul = dbt_posthog_sync.literal('(?<!\\\\)((?:\\\\\\\\)*)\\\\u0000') -%}
  {%- set text = "regexp_replace(to_json(" ~ expression ~ "), " ~ nul ~ ", " ~ dbt_posthog_sync.literal('$1\\\\uFFFD') ~ ")" -%}
  {%- set token = "'(\"(?:[^\"\\\\\\\\]|\\\\\\\\.)*\"|-?[0-9][0-9.eE+-]*|[^\"0-9-]+|-)'" -%}
  {%- set digits = dbt_posthog_sync.spark__digits -%}
  {{- return("nullif(case when " ~ text ~ " rlike '[0-9.]{16}|[0-9][eE][-+]?[0-9]{3}' then array_join(transform(regexp_extract_all(" ~ text ~ ", "
    ~ token ~ ", 1), t -> case when not t rlike '^-?[0-9]' or " ~ digits("cast(cast(t as double) as string)") ~ " = " ~ digits("t")
    ~ " then t else '\"' || t || '\"' end), '') else " ~ text ~ " end, 'null')") -}}
{% endmacro %}

{% macro spark__json_array(expression, type, time_zone) %}
  {%- set name = 'e' ~ (type.text | length) -%}
  {{- return("case when " ~ expression ~ " is not null then '[' || array_join(transform(" ~ expression ~ ", " ~ name ~ " -> coalesce("
    ~ dbt_posthog_sync.json_of(name, type.element, time_zone) ~ ", 'null')), ',') || ']' end") -}}
{% endmacro %}

{% macro spark__json_struct(expression, type, time_zone) %}
  {%- set parts = [] -%}
  {%- for field in type.fields -%}
    {%- set inner = expression ~ '.' ~ dbt_posthog_sync.quoted(field.name) -%}
    {%- do parts.append(dbt_posthog_sync.literal(',' ~ (field.name | tojson) ~ ':') ~ " || coalesce(" ~ dbt_posthog_sync.json_of(inner, field.type, time_zone) ~ ", 'null')") -%}
  {%- endfor -%}
  {{- return("case when " ~ expression ~ " is not null then '{' || substr(" ~ dbt_posthog_sync.joined(parts) ~ ", 2) || '}' end") -}}
{% endmacro %}

{% macro spark__json_map(expression, type, time_zone) %}
  {%- set name = 'v' ~ (type.text | length) -%}
  {{- return("case when " ~ expression ~ " is not null then '{' || array_join(transform(map_entries(" ~ expression ~ "), " ~ name ~ " -> "
    ~ dbt_posthog_sync.json_text('cast(' ~ name ~ '.key as string)') ~ " || ':' || coalesce("
    ~ dbt_posthog_sync.json_of(name ~ '.value', type.element, time_zone) ~ ", 'null')), ',') || '}' end") -}}
{% endmacro %}

{% macro spark__json_member(expression, name) %}
  {{- return("get_json_object(cast(" ~ expression ~ " as string), " ~ dbt_posthog_sync.literal('$.' ~ name) ~ ")") -}}
{% endmacro %}

{% macro spark__rows_of_json(rows, columns) %}
  (select {% for number in range(columns) %}r[{{ number }}] as c{{ number }}{{ ', ' if not loop.last }}{% endfor %}
   from (select explode(from_json({{ dbt_posthog_sync.literal(rows) }}, 'array<array<string>>')) as r) j)
{%- endmacro %}
