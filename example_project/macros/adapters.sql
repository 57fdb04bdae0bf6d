{# The few expressions that differ between warehouses. #}

{# The number that up to 15 hexadecimal digits spell. #}
{% macro hex_to_bigint(digits) -%}
    {{ return(adapter.dispatch('hex_to_bigint', 'shop')(digits)) }}
{%- endmacro %}

{% macro default__hex_to_bigint(digits) -%}
    cast(cast('x' || lpad({{ digits }}, 16, '0') as bit(64)) as bigint)
{%- endmacro %}

{% macro duckdb__hex_to_bigint(digits) -%}
    cast('0x' || {{ digits }} as bigint)
{%- endmacro %}

{# An interval of so many milliseconds. #}
{% macro interval_of(milliseconds) -%}
    {{ return(adapter.dispatch('interval_of', 'shop')(milliseconds)) }}
{%- endmacro %}

{% macro default__interval_of(milliseconds) -%}
    ({{ milliseconds }}) * interval '1 millisecond'
{%- endmacro %}

{% macro duckdb__interval_of(milliseconds) -%}
    to_milliseconds({{ milliseconds }})
{%- endmacro %}
