{# BigQuery. Each statement is a job and a transaction of its own; times are UTC. dbt has a client here and no connection. #}

{% macro bigquery__cursor_module() %}{{ return('google.cloud.bigquery.dbapi') }}{% endmacro %}
{% macro bigquery__transaction_statements() %}{{ return({}) }}{% endmacro %}
{% macro bigquery__primary_key() %}{{ return('') }}{% endmacro %}

{# Temporary tables end with the job. What stands in for them goes by itself when a killed run leaves it. #}
{% macro bigquery__temporary_kind() %}{{ return('table') }}{% endmacro %}
{% macro bigquery__temporary_table(name) %}{{ return(dbt_posthog_sync.named_temporary_table(name)) }}{% endmacro %}
{% macro bigquery__table_options(is_temporary) %}
  {{- return(' options (expiration_timestamp = timestamp_add(current_timestamp(), interval 2 day))' if is_temporary else '') -}}
{% endmacro %}
{% macro bigquery__read_temporary_tables() %}{{ return(dbt_posthog_sync.bigquery__tables(target.schema, 'ends_with', dbt_posthog_sync.process_suffix())) }}{% endmacro %}
{% macro bigquery__read_tables_of(schema, prefix) %}{{ return(dbt_posthog_sync.bigquery__tables(schema, 'starts_with', prefix)) }}{% endmacro %}
{% macro bigquery__tables(schema, test, part) %}
  select table_name from {{ api.Relation.create(database=dbt_posthog_sync.target_database(), schema=schema).without_identifier() }}.INFORMATION_SCHEMA.TABLES
  where {{ test }}(table_name, {{ dbt_posthog_sync.literal(part) }})
{% endmacro %}

{% macro bigquery__update_from(table, alias, values, source, source_alias, condition, guard) %}
  {{- return(dbt_posthog_sync.merged_update(table, alias, values, source, source_alias, condition, guard)) -}}
{% endmacro %}
{% macro bigquery__one_row() %}{{ return(' from (select 1)') }}{% endmacro %}

{# A line ends a text, and the driver takes two per cent signs for one (google-cloud-bigquery: dbapi/cursor.py). #}
{% macro bigquery__literal(text) %}
  {{- return("'" ~ (text | string | replace('\\', '\\\\') | replace("'", "\\'") | replace('\n', '\\n') | replace('\r', '\\r') | replace('%', '\\x25')) ~ "'") -}}
{% endmacro %}

{% macro bigquery__type_text() %}{{ return('string') }}{% endmacro %}
{% macro bigquery__type_hash() %}{{ return('int64') }}{% endmacro %}
{% macro bigquery__type_double() %}{{ return('float64') }}{% endmacro %}
{% macro bigquery__type_moment() %}{{ return('timestamp') }}{% endmacro %}

{% macro bigquery__type_key(type) %}
  {%- if type.family == 'text' -%}{{- return('string') -}}
  {%- elif type.family in ('integer', 'bigint') -%}{{- return('int64') -}}{%- endif -%}
  {{- return(type.text | lower) -}}
{% endmacro %}

{# `timestamp` is a moment, `datetime` is not. #}
{% macro bigquery__type_names() %}
  {{- return({'timestamp': 'timestamptz', 'json': 'jsonb', 'interval': 'unsupported'}) -}}
{% endmacro %}

{% macro bigquery__describe_columns(relation) %}
  {%- set parts = (relation | string | replace('`', '')).split('.') -%}
  select column_name, data_type, collation_name <> 'NULL' from `{{ parts[0] }}`.`{{ parts[1] }}`.INFORMATION_SCHEMA.COLUMNS
  where table_name = {{ dbt_posthog_sync.literal(parts[2]) }} order by ordinal_position
{% endmacro %}

{% macro bigquery__trimmed(text, characters) %}{{ return('trim(' ~ text ~ ', ' ~ characters ~ ')') }}{% endmacro %}
{% macro bigquery__digest(text) %}{{ return('to_hex(md5(' ~ text ~ '))') }}{% endmacro %}

{# A day has no hours to shift. #}
{% macro bigquery__shifted(moment, direction, number, unit) %}
  {{- return('(' ~ moment ~ ' ' ~ direction ~ ' interval ' ~ number ~ ' ' ~ unit ~ ')') -}}
{% endmacro %}
{% macro bigquery__clock() %}{{ return('current_timestamp()') }}{% endmacro %}
{% macro bigquery__seconds_since(moment) %}timestamp_diff({{ dbt_posthog_sync.clock() }}, {{ moment }}, second){% endmacro %}

{# --- hash --- #}

{# FarmHash Fingerprint64, which never changes (BigQuery documentation: FARM_FINGERPRINT), of the columns as JSON. #}
{% macro bigquery__hash_name() %}{{ return('bigquery farm_fingerprint of seed and columns as JSON') }}{% endmacro %}
{% macro bigquery__hash_canary() %}cast(farm_fingerprint(to_json_string(struct(1 as s, 'canary' as a, cast(1.5 as numeric) as b, cast(null as string) as c))) as string){% endmacro %}

{% macro bigquery__row_hash(columns, seed) %}
  {%- set parts = [seed ~ ' as s'] -%}
  {%- for column in columns -%}{%- do parts.append(dbt_posthog_sync.model_column(column) ~ ' as c' ~ loop.index) -%}{%- endfor -%}
  {{- return('farm_fingerprint(to_json_string(struct(' ~ (parts | join(', ')) ~ ')))') -}}
{% endmacro %}

{% macro bigquery__text_hash(expression) %}{{ return('farm_fingerprint(' ~ expression ~ ')') }}{% endmacro %}
{% macro bigquery__bucket(expression, buckets) %}{{ return('abs(mod(farm_fingerprint(' ~ expression ~ '), ' ~ buckets ~ '))') }}{% endmacro %}
{% macro bigquery__part_of(expression, parts) %}{{ return('abs(mod(farm_fingerprint(' ~ expression ~ '), ' ~ parts ~ '))') }}{% endmacro %}

{% macro bigquery__uuid_of(seed) %}{{ return(dbt_posthog_sync.uuid_of_digest(dbt_posthog_sync.digest(seed))) }}{% endmacro %}

{# Bytes are cut by counting. #}
{% macro bigquery__is_marked(number, marks) %}
  {{- return("substr(b'" ~ marks ~ "', " ~ number ~ " + 1, 1) = b'1'") -}}
{% endmacro %}
{% macro bigquery__position_list(positions) %}
  {{- return("(select cast(n as int64) as position from unnest(split('" ~ positions ~ "', ',')) as n) p") -}}
{% endmacro %}

{% macro bigquery__utf16_length(expression) %}
  {{- return("length(" ~ expression ~ ") + length(regexp_replace(" ~ expression ~ ", r'[^\\x{10000}-\\x{10FFFF}]', ''))") -}}
{% endmacro %}

{# --- JSON --- #}

{# A decimal is written without zeros at its end by the cast itself. #}
{% macro bigquery__json_text(expression) %}
  {{- return("case when " ~ expression ~ " is not null then to_json_string(replace(" ~ expression ~ ", code_points_to_string([0]), '\\uFFFD')) end") -}}
{% endmacro %}

{% macro bigquery__first_match(expression, pattern) %}
  {{- return("nullif(regexp_extract(" ~ expression ~ ", " ~ dbt_posthog_sync.literal(pattern) ~ "), '')") -}}
{% endmacro %}

{% macro bigquery__digits(text) %}
  {{- return("trim(regexp_replace(regexp_replace(" ~ text ~ ", '[eE].*$', ''), '[^0-9]', ''), '0')") -}}
{% endmacro %}

{# 15 significant digits survive a double. #}
{% macro bigquery__json_decimal(expression, type, time_zone) %}
  {%- set text = dbt_posthog_sync.as_text(expression) -%}
  {{- return("case when (abs(" ~ expression ~ ") <= 9007199254740992 and " ~ expression ~ " = trunc(" ~ expression ~ "))"
    ~ " or length(" ~ dbt_posthog_sync.bigquery__digits(text) ~ ") <= 15 then " ~ text
    ~ " when " ~ expression ~ " is not null then '\"' || " ~ text ~ " || '\"' end") -}}
{% endmacro %}

{% macro bigquery__json_float(expression, type, time_zone) %}
  {{- return("case when not (is_nan(" ~ expression ~ ") or is_inf(" ~ expression ~ ")) then to_json_string(" ~ expression ~ ") end") -}}
{% endmacro %}

{# Days and times are of the years 1 to 9999 by type. #}
{% macro bigquery__json_date(expression, type, time_zone) %}{{ return("'\"' || cast(" ~ expression ~ " as string) || '\"'") }}{% endmacro %}

{% macro bigquery__moment(expression, type, time_zone) %}
  {%- if type.family == 'timestamp_tz' -%}{{- return(expression) -}}{%- endif -%}
  {{- return('safe.timestamp(' ~ expression ~ ', ' ~ dbt_posthog_sync.literal(time_zone) ~ ')') -}}
{% endmacro %}

{% macro bigquery__has_time(expression, type, time_zone) %}
  {{- return('(' ~ dbt_posthog_sync.moment(expression, type, time_zone) ~ ' is not null)') -}}
{% endmacro %}

{% macro bigquery__json_timestamp(expression, type, time_zone) %}
  {{- return("'\"' || " ~ dbt_posthog_sync.moment_text(dbt_posthog_sync.moment(expression, type, time_zone)) ~ " || '\"'") -}}
{% endmacro %}

{% macro bigquery__day_text(expression, type, time_zone) %}
  {{- return("cast(extract(date from " ~ dbt_posthog_sync.moment(expression, type, time_zone) ~ ") as string)") -}}
{% endmacro %}

{# A fraction without zeros at its end, and none where there is none. #}
{% macro bigquery__moment_text(expression) %}
  {{- return("regexp_replace(format_timestamp('\\x25Y-\\x25m-\\x25dT\\x25H:\\x25M:\\x25E6S', " ~ expression ~ ", 'UTC'), r'[.]?0*$', '') || 'Z'") -}}
{% endmacro %}

{# Numbers inside that a double cannot hold go out as they are kept. #}
{% macro bigquery__json_json(expression, type, time_zone) %}
  {{- return("nullif(replace(to_json_string(" ~ expression ~ "), r'\\u0000', r'\\ufffd'), 'null')") -}}
{% endmacro %}

{% macro bigquery__json_array(expression, type, time_zone) %}
  {%- set name = 'e' ~ (type.text | length) -%}
  {{- return("case when " ~ expression ~ " is not null then '[' || array_to_string(array(select coalesce("
    ~ dbt_posthog_sync.json_of(name, type.element, time_zone) ~ ", 'null') from unnest(" ~ expression ~ ") as " ~ name
    ~ " with offset as o" ~ name ~ " order by o" ~ name ~ "), ',') || ']' end") -}}
{% endmacro %}

{% macro bigquery__json_struct(expression, type, time_zone) %}
  {%- set parts = [] -%}
  {%- for field in type.fields -%}
    {%- set inner = expression ~ '.' ~ dbt_posthog_sync.quoted(field.name) -%}
    {%- do parts.append(dbt_posthog_sync.literal(',' ~ (field.name | tojson) ~ ':') ~ " || coalesce(" ~ dbt_posthog_sync.json_of(inner, field.type, time_zone) ~ ", 'null')") -%}
  {%- endfor -%}
  {{- return("case when " ~ expression ~ " is not null then '{' || substr(" ~ dbt_posthog_sync.joined(parts) ~ ", 2) || '}' end") -}}
{% endmacro %}

{# A document, or the text of one. #}
{% macro bigquery__json_member(expression, name) %}
  {{- return("json_value(" ~ expression ~ ", " ~ dbt_posthog_sync.literal('$.' ~ name) ~ ")") -}}
{% endmacro %}

{% macro bigquery__rows_of_json(rows, columns) %}
  (select {% for number in range(columns) %}json_value(r, '$[{{ number }}]') as c{{ number }}{{ ', ' if not loop.last }}{% endfor %}
   from unnest(json_query_array({{ dbt_posthog_sync.literal(rows) }})) as r)
{%- endmacro %}
