-- Orders as the shop's database holds them: 4,800 before shop_today, and a row of its own for every refund.
-- Every day that passes, the seven customers who upgrade that day place twelve more.
{% set days = var('shop_day') | int %}
with placed as (

    select
        numbers.n,
        customers.customer_id,
        customers.country_code,
        1 + mod({{ draw('order day', 'numbers.n', 1000003) }}, customers.signed_up_days_ago - 1) as days_ago,
        {{ draw('status', 'numbers.n', 100) }} as status_draw
    from ({{ series(1, 4800) }}) as numbers
    inner join {{ ref('raw_customers') }} as customers
        on customers.customer_number = 1 + {{ draw_low('buyer', 'numbers.n', 2000) }}
    union all
    select
        4788 + 12 * days.n + orders.n as n,
        customers.customer_id,
        customers.country_code,
        1 - days.n as days_ago,
        99 as status_draw
    from ({{ series(1, days) }}) as days
    cross join ({{ series(1, 12) }}) as orders
    inner join {{ ref('raw_customers') }} as customers
        on customers.upgrade_place = 7 * days.n - 6 + mod(orders.n - 1, 7)

),

drawn as (

    select
        *,
        {{ daytime('order time', 'n', 'days_ago') }} as ordered_ms,
        case when status_draw < 4 then 'cancelled' when status_draw < 7 then 'failed' else 'completed' end as status,
        1 + {{ draw('product', 'n', 16) }} as product_id,
        1 + {{ draw_low('quantity', 'n', 5) }} as quantity,
        {{ draw('coupon', 'n', 100) }} as coupon_draw,
        {{ draw('payment', 'n', 100) }} as payment_draw,
        {{ draw('card', 'n', 10000) }} as card_draw,
        1 + {{ draw('refund delay', 'n', 14) }} as refund_days
    from placed

),

with_refunds as (

    select drawn.*, cast(null as bigint) as refunded_n from drawn
    union all
    select
        100000 + n, customer_id, country_code, days_ago - refund_days, status_draw,
        {{ daytime('refund time', 'n', 'days_ago - refund_days') }},
        'refunded', product_id, quantity, coupon_draw, payment_draw, card_draw, refund_days, n
    from drawn
    where status = 'completed' and days_ago > refund_days and {{ draw('refund', 'n', 100) }} < 5

),

numbered as (

    select *, 1000000 + row_number() over (order by ordered_ms, n) as order_id from with_refunds

),

orders as (

    select
        numbered.order_id,
        refunded.order_id as refunded_order_id,
        numbered.customer_id,
        {{ moment('numbered.ordered_ms') }} as ordered_at,
        numbered.status,
        products.sku,
        numbered.quantity,
        products.price_cents,
        case when numbered.coupon_draw < 9 then 'AUTUMN10' when numbered.coupon_draw < 12 then 'FRIENDS25' end as coupon,
        case when numbered.coupon_draw < 9 then 10 when numbered.coupon_draw < 12 then 25 else 0 end as discount_percent,
        countries.currency,
        countries.per_eur,
        case
            when numbered.payment_draw < 60 then 'card' when numbered.payment_draw < 85 then 'paypal' else 'invoice'
        end as payment_method,
        case when numbered.payment_draw < 60
            then '4242 4242 4242 ' || lpad(cast(numbered.card_draw as text), 4, '0') end as card_number
    from numbered
    left join numbered as refunded on refunded.n = numbered.refunded_n
    inner join {{ ref('products') }} as products on products.id = numbered.product_id
    inner join {{ ref('countries') }} as countries on lower(countries.code) = numbered.country_code

)

select * from orders

{% if var('shop_bad_rows') %}
{% set columns = ['sku', 'quantity', 'price_cents', 'coupon', 'discount_percent', 'currency', 'per_eur',
                  'payment_method', 'card_number'] | join(', ') %}
{% set example = 'from orders where order_id = 1000001' %}
-- Bad: two orders with one number, one of nobody, one at the end of time.
union all
select 9000001, refunded_order_id, customer_id, ordered_at, 'failed', {{ columns }} {{ example }}
union all
select 9000001, refunded_order_id, customer_id, ordered_at, 'failed', {{ columns }} {{ example }}
union all
select 9000002, refunded_order_id, cast(null as text), ordered_at, 'failed', {{ columns }} {{ example }}
union all
select 9000003, refunded_order_id, customer_id, cast('infinity' as timestamp), 'failed', {{ columns }} {{ example }}
{% endif %}
