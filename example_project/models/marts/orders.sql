-- One row an order or refund. A refund is a row of its own, because an event once sent is not sent again.
select
    orders.order_id,
    orders.refunded_order_id,
    orders.customer_id,
    customers.account_id,
    orders.ordered_at,
    orders.status,
    'order ' || orders.status as event_name,
    orders.sku,
    products.name as product_name,
    products.category,
    orders.quantity,
    orders.amount,
    orders.currency,
    orders.amount_eur,
    orders.coupon,
    orders.payment_method,
    orders.card_number,
    orders.status = 'completed' and row_number() over (
        partition by orders.customer_id, orders.status order by orders.ordered_at, orders.order_id
    ) = 1 as is_first_order
from {{ ref('stg_orders') }} as orders
inner join {{ ref('products') }} as products on products.sku = orders.sku
left join {{ ref('stg_customers') }} as customers on customers.customer_id = orders.customer_id
