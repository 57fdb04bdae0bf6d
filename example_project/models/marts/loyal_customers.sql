-- One row a customer with many orders who wants mail: the contacts of the shop in Loops.
select
    customer_id,
    email,
    first_name,
    last_name,
    plan_name,
    country_name,
    orders_count,
    lifetime_value_eur,
    last_order_at
from {{ ref('customers') }}
where marketing_opt_in and email is not null and orders_count >= 7
