{# Building blocks of the generated data: the same numbers on every warehouse, every day. #}

{# A query with one row for each whole number from first to last; none when last is smaller. #}
{% macro series(first, last) -%}
    select cast(number as bigint) as n from generate_series({{ first }}, {{ last }}) as numbers (number)
{%- endmacro %}

{# What looks like chance: a number from 0 to below - 1 that depends on the topic and the SQL expression n alone. #}
{% macro draw(topic, n, below) -%}
    mod({{ hex_to_bigint("substr(md5('" ~ topic ~ ":' || cast(" ~ n ~ " as text)), 1, 8)") }}, {{ below }})
{%- endmacro %}

{# The same, with small numbers more likely than large ones. #}
{% macro draw_low(topic, n, below) -%}
    least({{ draw(topic ~ ' a', n, below) }}, {{ draw(topic ~ ' b', n, below) }})
{%- endmacro %}

{# Milliseconds from shop_today to a time between 7:00 and 22:00 of the day that lies days_ago back. #}
{% macro daytime(topic, n, days_ago) -%}
    {{ draw(topic, n, 54000000) }} + 25200000 - ({{ days_ago }}) * 86400000
{%- endmacro %}

{# The timestamp (UTC, without zone) that lies some milliseconds after shop_today. #}
{% macro moment(milliseconds) -%}
    cast('{{ var("shop_today") }}' as timestamp) + {{ interval_of(milliseconds) }}
{%- endmacro %}

{# Milliseconds from 1970 to shop_today. #}
{% macro shop_today_epoch() -%}
    {%- set datetime = modules.datetime.datetime -%}
    {%- set days = (datetime.strptime(var('shop_today') | string, '%Y-%m-%d') - datetime(1970, 1, 1)).days -%}
    cast({{ days }} as bigint) * 86400000
{%- endmacro %}
