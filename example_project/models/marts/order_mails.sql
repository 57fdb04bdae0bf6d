-- One row a completed order of a customer who wants mail: it starts the thank-you mails in Loops.
select
    orders.order_id,
    customers.email,
    orders.product_name,
    orders.quantity,
    orders.amount,
    orders.currency,
    orders.is_first_order
from {{ ref('orders') }} as orders
inner join {{ ref('customers') }} as customers on customers.customer_id = orders.customer_id
where orders.status = 'completed' and customers.marketing_opt_in and customers.email is not null
