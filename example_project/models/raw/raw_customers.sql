-- Customers as the shop's database holds them: 2,000 before shop_today.
-- Every day that passes, three sign up and seven others move to the next plan.
{% set days = var('shop_day') | int %}
with numbers as (

    select n, 2 + {{ draw_low('customer day', 'n', 239) }} as days_ago
    from ({{ series(1, 2000) }}) as first_customers
    union all
    select 1997 + 3 * days.n + signups.n as n, 1 - days.n as days_ago
    from ({{ series(1, days) }}) as days
    cross join ({{ series(1, 3) }}) as signups

),

drawn as (

    select
        n,
        days_ago,
        {{ daytime('customer time', 'n', 'days_ago') }} as signed_up_ms,
        1 + {{ draw('first name', 'n', 40) }} as first_name_id,
        1 + {{ draw('last name', 'n', 40) }} as last_name_id,
        1 + {{ draw_low('country', 'n', 12) }} as country_id,
        case when n <= 2000 and {{ draw('has account', 'n', 100) }} < 45
            then 1 + {{ draw('account', 'n', 150) }} end as account_number,
        {{ draw('plan', 'n', 100) }} as plan_draw,
        {{ draw('source', 'n', 100) }} as source_draw,
        {{ draw('email', 'n', 100) }} as email_draw,
        {{ draw('opt in', 'n', 100) }} < 62 as marketing_opt_in,
        case when {{ draw('has phone', 'n', 100) }} < 70
            then lpad(cast({{ draw('phone', 'n', 100000000) }} as text), 8, '0') end as phone_digits,
        n <= 2000 and {{ draw('plan', 'n', 100) }} < 95 as can_upgrade
    from numbers

),

ranked as (

    select
        *,
        row_number() over (order by signed_up_ms, n) as customer_number,
        case when can_upgrade then row_number() over (
            partition by can_upgrade order by {{ draw('upgrade', 'n', 1000000007) }}, n
        ) end as upgrade_place
    from drawn

),

customers as (

    select
        'C-' || lpad(cast(ranked.customer_number as text), 6, '0') as customer_id,
        ranked.customer_number,
        ranked.days_ago as signed_up_days_ago,
        ranked.upgrade_place,
        accounts.account_id,
        first_names.name as first_name,
        last_names.name as last_name,
        case
            when email_draw < 3 then null
            when email_draw < 8 then '  ' || upper(first_names.ascii) || '.' || last_names.ascii
            else first_names.ascii || '.' || last_names.ascii
        end || cast(ranked.n as text) || '@' || coalesce(accounts.domain, case
            when email_draw < 55 then 'example.com' when email_draw < 80 then 'example.org' else 'example.net'
        end) as email,
        countries.phone_prefix || ' ' || phone_digits as phone,
        lower(countries.code) as country_code,
        case when upgrades.n is null then 0 else 1 end
        + case when plan_draw < 55 then 1 when plan_draw < 80 then 2 when plan_draw < 95 then 3 else 4 end as plan_level,
        case
            when upgrades.n is null then {{ moment('signed_up_ms') }}
            else {{ moment(daytime('upgrade time', 'ranked.n', '1 - upgrades.n')) }}
        end as plan_since,
        case
            when source_draw < 15 then null
            when source_draw < 45 then 'search'
            when source_draw < 62 then 'newsletter'
            when source_draw < 78 then 'social'
            when source_draw < 90 then 'friend'
            else 'fair'
        end as marketing_source,
        marketing_opt_in,
        {{ moment('signed_up_ms') }} as signed_up_at
    from ranked
    inner join {{ ref('first_names') }} as first_names on first_names.id = ranked.first_name_id
    inner join {{ ref('last_names') }} as last_names on last_names.id = ranked.last_name_id
    inner join {{ ref('countries') }} as countries on countries.id = ranked.country_id
    left join {{ ref('raw_accounts') }} as accounts on accounts.account_number = ranked.account_number
    left join ({{ series(1, days) }}) as upgrades
        on ranked.upgrade_place between 7 * upgrades.n - 6 and 7 * upgrades.n

)

select * from customers

{% if var('shop_bad_rows') %}
{% set columns = ['signed_up_days_ago', 'upgrade_place', 'cast(null as text)', 'first_name', 'last_name',
                  'cast(null as text)', 'phone', 'country_code', 'plan_level', 'plan_since', 'marketing_source',
                  'marketing_opt_in', 'signed_up_at'] | join(', ') %}
-- Bad: a customer without an id, and one whose id is the word null. Neither has a company or an e-mail address.
union all
select cast(null as text), -1, {{ columns }} from customers where customer_number = 1
union all
select 'null', -2, {{ columns }} from customers where customer_number = 2
{% endif %}
