-- Every refund follows one completed order and gives back what it cost.
select refunds.order_id
from {{ ref('orders') }} as refunds
left join {{ ref('orders') }} as orders on orders.order_id = refunds.refunded_order_id
where refunds.status = 'refunded'
    and (
        orders.order_id is null
        or orders.status <> 'completed'
        or orders.amount <> -refunds.amount
        or orders.ordered_at >= refunds.ordered_at
    )
