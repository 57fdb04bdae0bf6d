-- Customers, with e-mail addresses tidied and plans named.
select
    customer_id,
    account_id,
    first_name,
    last_name,
    lower(trim(email)) as email,
    phone,
    upper(country_code) as country_code,
    case plan_level when 1 then 'free' when 2 then 'starter' when 3 then 'team' else 'scale' end as plan_name,
    plan_since,
    marketing_source,
    marketing_opt_in,
    signed_up_at
from {{ ref('raw_customers') }}
