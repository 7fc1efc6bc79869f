"""HubSpot's objects hold everything of interest in `properties`, where numbers, booleans and times are strings.

What was never filled in is null or an empty string. Every portal counts its contacts from the same number, so that their ids repeat
across syncs.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sequin_pipeline.sandbox.dice import Dice
from sequin_pipeline.sandbox.objects import JsonObject, Kind, Lifetime, Provider, words
from sequin_pipeline.sandbox.objects.account import Account

FIRST_CONTACT_ID = 51
"""Every portal counts contacts, the oldest of HubSpot's objects, from here; ids of the others are drawn by all portals together."""
OWNER_IDS = ("49120031", "49120077", "50233418")


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1_000:03}Z"


def _milliseconds(moment: datetime) -> str:
    return str(int(moment.timestamp()) * 1_000 + moment.microsecond // 1_000)


def _flag(dice: Dice, share: float) -> str:
    return "true" if dice.chance(share) else "false"


def _often(dice: Dice, text: str) -> str | None:
    """Returns mostly the text; sometimes a field that was emptied, or one that nobody ever filled in."""
    return dice.pick((text, text, text, text, text, text, "", None))


def _cents(number: int) -> str:
    return f"{number // 100}.{number % 100:02}"


def _shared_id(dice: Dice, account: Account, kind: str) -> str:
    return str(7_340_000_000 + account.next_serial(kind) * 100_000 + dice.below(100_000))


def _object(object_id: str, life: Lifetime, *, properties: Mapping[str, str | None], associations: JsonObject) -> JsonObject:
    return {
        "id": object_id,
        "properties": {"hs_object_id": object_id, **properties},
        "createdAt": _time(life.created_at),
        "updatedAt": _time(life.updated_at),
        "archived": False,
        "associations": associations,
    }


def _association(kind: str, target: JsonObject) -> JsonObject:
    return {"results": [{"id": target["id"], "type": kind}]}


def make_company(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    city, country, postal_code, _ = dice.pick(words.PLACES)
    domain = words.domain(dice)
    properties = {
        "name": words.company(dice),
        "domain": domain,
        "website": f"https://{domain}",
        "phone": _often(dice, words.phone(dice)),
        "address": _often(dice, f"{dice.pick(words.STREETS)} {dice.between(1, 180)}"),
        "city": city,
        "zip": postal_code,
        "country": country,
        "industry": _often(dice, dice.pick(words.INDUSTRIES).upper()),
        "annualrevenue": _often(dice, str(dice.between(50, 90_000) * 1_000)),
        "numberofemployees": _often(dice, str(dice.between(1, 12_000))),
        "num_associated_contacts": str(dice.below(12)),
        "num_associated_deals": str(dice.below(5)),
        "total_revenue": _often(dice, _cents(dice.between(10_000, 90_000_000))),
        "is_public": _flag(dice, 0.1),
        "lifecyclestage": dice.pick(("lead", "opportunity", "customer")),
        "founded_year": _often(dice, str(dice.between(1890, 2023))),
        "hs_analytics_num_visits": str(dice.below(400)),
        "hs_lead_status": dice.pick(("NEW", "OPEN", "CONNECTED", "")),
        "hubspot_owner_id": _often(dice, dice.pick(OWNER_IDS)),
        "first_deal_created_date": _often(dice, _time(life.created_at)),
        "notes_last_contacted": _often(dice, _milliseconds(life.updated_at - timedelta(days=dice.below(40)))),
        "description": _often(dice, words.text(dice, 3)),
        "timezone": "",
        "createdate": _time(life.created_at),
        "hs_lastmodifieddate": _time(life.updated_at),
    }
    return _object(_shared_id(dice, account, "company"), life, properties=properties, associations={})


def make_contact(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    first, last = words.person(dice)
    company = account.pick("company", dice)
    city, country, postal_code, language = dice.pick(words.PLACES)
    properties = {
        "email": words.email(dice),
        "firstname": _often(dice, first),
        "lastname": last,
        "phone": _often(dice, words.phone(dice)),
        "mobilephone": _often(dice, words.phone(dice)),
        "jobtitle": _often(dice, dice.pick(words.JOB_TITLES)),
        "company": company["properties"]["name"],
        "associatedcompanyid": company["id"],
        "city": city,
        "zip": postal_code,
        "country": country,
        "hs_language": language,
        "lifecyclestage": dice.pick(("subscriber", "lead", "marketingqualifiedlead", "customer")),
        "hs_lead_status": dice.pick(("NEW", "OPEN", "CONNECTED", "")),
        "hubspotscore": _often(dice, str(dice.below(100))),
        "hs_predictivecontactscore_v2": _often(dice, _cents(dice.below(10_000))),
        "hs_email_optout": _flag(dice, 0.1),
        "hs_email_open": str(dice.below(60)),
        "hs_email_last_open_date": _often(dice, _milliseconds(life.updated_at - timedelta(days=dice.below(90)))),
        "hs_analytics_num_page_views": str(dice.below(300)),
        "hs_analytics_source": dice.pick(("ORGANIC_SEARCH", "DIRECT_TRAFFIC", "OFFLINE")),
        "hs_analytics_revenue": _cents(dice.below(2_000_000)),
        "num_associated_deals": _often(dice, str(dice.below(4))),
        "hubspot_owner_id": _often(dice, dice.pick(OWNER_IDS)),
        "message": _often(dice, words.text(dice, 2)),
        "date_of_birth": "",
        "createdate": _time(life.created_at),
        "lastmodifieddate": _time(life.updated_at),
    }
    associations = {"companies": _association("contact_to_company", company)}
    contact_id = str(FIRST_CONTACT_ID + account.next_serial("contact") - 1)
    return _object(contact_id, life, properties=properties, associations=associations)


def make_deal(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    company, contact = account.pick("company", dice), account.pick("contact", dice)
    amount = dice.between(5_000, 40_000_000)
    properties = {
        "dealname": f"{company['properties']['name']} – {dice.pick(('renewal', 'Erweiterung', 'pilot', '更新'))}",
        "dealtype": dice.pick(("newbusiness", "existingbusiness")),
        "pipeline": "default",
        **_stage_properties(dice, amount),
        "deal_currency_code": dice.pick(words.CURRENCIES).upper(),
        "closedate": _often(dice, _time(life.updated_at + timedelta(days=dice.between(-60, 120)))),
        "days_to_close": _often(dice, str(dice.below(180))),
        "num_associated_contacts": "1",
        "num_notes": _often(dice, str(dice.below(30))),
        "hs_priority": dice.pick(("low", "medium", "high", "")),
        "hs_forecast_category": _often(dice, dice.pick(("PIPELINE", "BEST_CASE", "COMMIT"))),
        "hs_next_step": _often(dice, dice.pick(("Send proposal", "Call the buyer", "Legal review"))),
        "hs_acv": _often(dice, _cents(amount)),
        "hs_arr": _often(dice, _cents(amount)),
        "hs_mrr": _often(dice, _cents(amount // 12)),
        "hs_tcv": _often(dice, _cents(amount * 2)),
        "hubspot_owner_id": _often(dice, dice.pick(OWNER_IDS)),
        "hubspot_owner_assigneddate": _often(dice, _time(life.created_at)),
        "notes_last_contacted": _often(dice, _milliseconds(life.updated_at - timedelta(days=dice.below(40)))),
        "description": _often(dice, words.text(dice, 3)),
        "closed_lost_reason": "",
        "createdate": _time(life.created_at),
        "hs_lastmodifieddate": _time(life.updated_at),
    }
    associations = {
        "companies": _association("deal_to_company", company),
        "contacts": _association("deal_to_contact", contact),
    }
    return _object(_shared_id(dice, account, "deal"), life, properties=properties, associations=associations)


def _stage_properties(dice: Dice, amount: int) -> Mapping[str, str | None]:
    stage, percent = dice.pick((("appointmentscheduled", 20), ("contractsent", 90), ("closedwon", 100), ("closedlost", 0)))
    return {
        "dealstage": stage,
        "amount": _often(dice, _cents(amount)),
        "amount_in_home_currency": _often(dice, _cents(amount)),
        "hs_deal_stage_probability": _cents(percent),
        "hs_projected_amount": _cents(amount * percent // 100),
        "hs_is_closed": "true" if stage.startswith("closed") else "false",
        "hs_is_closed_won": "true" if stage == "closedwon" else "false",
    }


def _revised(before: JsonObject, properties: Mapping[str, str | None], at: datetime) -> JsonObject:
    changed_key = "lastmodifieddate" if "lastmodifieddate" in before["properties"] else "hs_lastmodifieddate"
    return {**before, "properties": {**before["properties"], **properties, changed_key: _time(at)}, "updatedAt": _time(at)}


def revise_company(dice: Dice, company: JsonObject, at: datetime) -> JsonObject:
    visits = int(company["properties"]["hs_analytics_num_visits"]) + dice.between(1, 9)
    properties = {"hs_analytics_num_visits": str(visits), "numberofemployees": _often(dice, str(dice.between(1, 12_000)))}
    return _revised(company, properties, at)


def revise_contact(dice: Dice, contact: JsonObject, at: datetime) -> JsonObject:
    opened = int(contact["properties"]["hs_email_open"]) + 1
    properties = {
        "hs_email_open": str(opened),
        "hs_email_last_open_date": _milliseconds(at),
        "jobtitle": _often(dice, dice.pick(words.JOB_TITLES)),
    }
    return _revised(contact, properties, at)


def revise_deal(dice: Dice, deal: JsonObject, at: datetime) -> JsonObject:
    return _revised(deal, _stage_properties(dice, dice.between(5_000, 40_000_000)), at)


def bury(deleted: JsonObject, at: datetime) -> JsonObject:
    return {**deleted, "archived": True, "archivedAt": _time(at), "updatedAt": _time(at)}


HUBSPOT = Provider(
    name="hubspot",
    kinds=(
        Kind("company", 480, make_company, revise_company, bury),
        Kind("contact", 900, make_contact, revise_contact, bury),
        Kind("deal", 660, make_deal, revise_deal, bury),
    ),
)
