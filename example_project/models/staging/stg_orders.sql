-- Orders and refunds with their amounts; a refund counts negative.
with priced as (

    select
        *,
        case when status = 'refunded' then -1 else 1 end * price_cents * quantity * (100 - discount_percent) as hundredth_cents
    from {{ ref('raw_orders') }}

)

select
    cast(order_id as bigint) as order_id,
    cast(refunded_order_id as bigint) as refunded_order_id,
    customer_id,
    ordered_at,
    status,
    sku,
    cast(quantity as bigint) as quantity,
    coupon,
    currency,
    cast(hundredth_cents * 0.0001 * per_eur as numeric(10, 2)) as amount,
    cast(hundredth_cents * 0.0001 as numeric(10, 2)) as amount_eur,
    payment_method,
    card_number
from priced
