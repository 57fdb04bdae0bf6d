-- One row a customer, with what they have bought so far.
with purchases as (

    select
        customer_id,
        sum(case when status = 'completed' then 1 else 0 end) as orders_count,
        sum(amount_eur) as lifetime_value_eur,
        max(case when status = 'completed' then ordered_at end) as last_order_at
    from {{ ref('stg_orders') }}
    where status in ('completed', 'refunded')
    group by customer_id

)

select
    customers.customer_id,
    customers.account_id,
    customers.email,
    customers.first_name,
    customers.last_name,
    customers.first_name || ' ' || customers.last_name as full_name,
    customers.phone,
    customers.country_code,
    countries.name as country_name,
    customers.plan_name,
    customers.plan_since,
    customers.marketing_source,
    customers.marketing_opt_in,
    customers.signed_up_at,
    cast(customers.signed_up_at as date) as signup_date,
    cast(coalesce(purchases.orders_count, 0) as bigint) as orders_count,
    cast(coalesce(purchases.lifetime_value_eur, 0) as numeric(12, 2)) as lifetime_value_eur,
    purchases.last_order_at
from {{ ref('stg_customers') }} as customers
left join {{ ref('countries') }} as countries on countries.code = customers.country_code
left join purchases on purchases.customer_id = customers.customer_id
