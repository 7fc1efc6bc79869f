"""Salesforce's objects have keys in Pascal case, decimal amounts, times like `2024-01-01T00:00:00.000+0000`, 18-character references."""

from datetime import datetime, timedelta
from decimal import Decimal

from sequin_pipeline.sandbox.dice import Dice
from sequin_pipeline.sandbox.objects import JsonObject, Kind, Lifetime, Provider, words
from sequin_pipeline.sandbox.objects.account import Account

USER_IDS = tuple(f"0055g00000{suffix}QAC" for suffix in ("Bq4Xa", "Bq4Xb", "CrT9k", "DwL2m", "ExP7s"))
API_VERSION = "v61.0"
STAGES = (
    ("Prospecting", 10, "Pipeline"),
    ("Qualification", 20, "Pipeline"),
    ("Proposal/Price Quote", 65, "BestCase"),
    ("Negotiation/Review", 80, "Commit"),
    ("Closed Won", 100, "Closed"),
    ("Closed Lost", 0, "Omitted"),
)
"""These are stage, probability in percent, and forecast category."""


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1_000:03}+0000"


def _system_fields(dice: Dice, sobject: str, prefix: str, *, life: Lifetime) -> JsonObject:
    record_id = f"{prefix}5g00000{dice.token(5)}QAV"
    return {
        "attributes": {"type": sobject, "url": f"/services/data/{API_VERSION}/sobjects/{sobject}/{record_id}"},
        "Id": record_id,
        "IsDeleted": False,
        "OwnerId": dice.pick(USER_IDS),
        "CreatedById": dice.pick(USER_IDS),
        "CreatedDate": _time(life.created_at),
        "LastModifiedById": dice.pick(USER_IDS),
        "LastModifiedDate": _time(life.updated_at),
        "SystemModstamp": _time(life.updated_at),
        "LastActivityDate": dice.maybe(0.6, (life.created_at + timedelta(days=dice.below(30))).date().isoformat()),
        "LastViewedDate": None,
        "LastReferencedDate": None,
    }


def _address(dice: Dice) -> JsonObject:
    city, country, postal_code, _ = dice.pick(words.PLACES)
    return {
        "city": city,
        "country": country,
        "geocodeAccuracy": None,
        "latitude": None,
        "longitude": None,
        "postalCode": postal_code,
        "state": None,
        "street": f"{dice.pick(words.STREETS)} {dice.between(1, 180)}",
    }


def make_account(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    billing = _address(dice)
    has_parent = account.count("account") > 0 and dice.chance(0.15)
    return {
        **_system_fields(dice, "Account", "001", life=life),
        "Name": words.company(dice),
        "Type": dice.pick(("Customer - Direct", "Customer - Channel", "Prospect", None)),
        "ParentId": account.pick("account", dice)["Id"] if has_parent else None,
        "BillingStreet": billing["street"],
        "BillingCity": billing["city"],
        "BillingPostalCode": billing["postalCode"],
        "BillingCountry": billing["country"],
        "BillingAddress": billing,
        "ShippingAddress": dice.maybe(0.4, _address(dice)),
        "Phone": words.phone(dice),
        "Website": f"https://{words.domain(dice)}",
        "AccountNumber": dice.maybe(0.7, f"{account.slug[:3].upper()}-{account.next_serial('number'):06}"),
        "Industry": dice.pick(words.INDUSTRIES),
        "AnnualRevenue": dice.maybe(0.7, Decimal(dice.between(50_000, 90_000_000) * 100).scaleb(-2)),
        "NumberOfEmployees": dice.maybe(0.8, dice.between(1, 12_000)),
        "Ownership": dice.pick(("Private", "Public", None)),
        "Rating": dice.pick(("Hot", "Warm", "Cold", None)),
        "AccountSource": dice.pick(("Web", "Partner Referral", "Trade Show", None)),
        "Description": dice.maybe(0.8, words.text(dice, 3)),
        "CustomerPriority__c": dice.pick(("High", "Medium", "Low")),
        "SLAExpirationDate__c": dice.maybe(0.5, (life.updated_at + timedelta(days=dice.between(30, 700))).date().isoformat()),
        "UpsellOpportunity__c": dice.pick(("Yes", "No", "Maybe")),
    }


def make_contact(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    first, last = words.person(dice)
    mailing = _address(dice)
    return {
        **_system_fields(dice, "Contact", "003", life=life),
        "AccountId": account.pick("account", dice)["Id"],
        "FirstName": dice.maybe(0.95, first),
        "LastName": last,
        "Name": f"{first} {last}",
        "Salutation": dice.pick(("Ms.", "Mr.", "Dr.", None)),
        "Title": dice.pick(words.JOB_TITLES),
        "Department": dice.pick(("Purchasing", "Finance", "IT", None)),
        "Email": dice.maybe(0.9, words.email(dice)),
        "EmailBouncedDate": dice.maybe(0.04, _time(life.updated_at - timedelta(hours=5))),
        "EmailBouncedReason": None,
        "IsEmailBounced": False,
        "Phone": words.phone(dice),
        "MobilePhone": dice.maybe(0.5, words.phone(dice)),
        "MailingStreet": mailing["street"],
        "MailingCity": mailing["city"],
        "MailingPostalCode": mailing["postalCode"],
        "MailingCountry": mailing["country"],
        "MailingAddress": mailing,
        "Birthdate": dice.maybe(0.3, f"{dice.between(1955, 2004)}-{dice.between(1, 12):02}-{dice.between(1, 28):02}"),
        "LeadSource": dice.pick(("Web", "Purchased List", "Other", None)),
        "HasOptedOutOfEmail": dice.chance(0.1),
        "DoNotCall": dice.chance(0.05),
        "ReportsToId": None,
        "Description": dice.maybe(0.6, words.text(dice, 3)),
        "Languages__c": dice.maybe(0.5, "English;German"),
        "Level__c": dice.pick(("Primary", "Secondary", "Tertiary")),
    }


def make_opportunity(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    customer = account.pick("account", dice)
    amount = Decimal(dice.between(5_000, 40_000_000)).scaleb(-2)
    close_date = (life.updated_at + timedelta(days=dice.between(-60, 120))).date()
    return {
        **_system_fields(dice, "Opportunity", "006", life=life),
        "AccountId": customer["Id"],
        "ContactId": account.pick("contact", dice)["Id"],
        "Name": f"{customer['Name']} – {dice.pick(('renewal', 'expansion', 'new business', 'pilot'))}",
        "Amount": dice.maybe(0.95, amount),
        "CurrencyIsoCode": dice.pick(words.CURRENCIES).upper(),
        "CloseDate": close_date.isoformat(),
        **_stage_fields(dice, amount),
        "Type": dice.pick(("New Customer", "Existing Customer - Upgrade", "Existing Customer - Replacement")),
        "NextStep": dice.maybe(0.5, dice.pick(("Send proposal", "Call the buyer", "Legal review"))),
        "LeadSource": dice.pick(("Web", "Partner Referral", "Trade Show", None)),
        "CampaignId": None,
        "HasOpportunityLineItem": dice.chance(0.6),
        "Pricebook2Id": f"01s5g00000{dice.token(5)}QAE",
        "TotalOpportunityQuantity": dice.maybe(0.4, Decimal(dice.between(1, 500)).scaleb(-1)),
        "FiscalQuarter": (close_date.month + 2) // 3,
        "FiscalYear": close_date.year,
        "Fiscal": f"{close_date.year} {(close_date.month + 2) // 3}",
        "LastStageChangeDate": _time(life.updated_at),
        "MainCompetitors__c": dice.maybe(0.4, words.company(dice)),
        "OrderNumber__c": dice.maybe(0.5, dice.token(8, "0123456789")),
        "Description": dice.maybe(0.9, words.text(dice, 4)),
    }


def _stage_fields(dice: Dice, amount: Decimal) -> JsonObject:
    stage, percent, forecast = dice.pick(STAGES)
    return {
        "StageName": stage,
        "Probability": Decimal(percent),
        "ExpectedRevenue": (amount * percent / 100).quantize(Decimal("0.01")),
        "IsClosed": stage.startswith("Closed"),
        "IsWon": stage == "Closed Won",
        "ForecastCategory": forecast,
    }


def _modified(at: datetime) -> JsonObject:
    return {"LastModifiedDate": _time(at), "SystemModstamp": _time(at)}


def revise_account(dice: Dice, customer: JsonObject, at: datetime) -> JsonObject:
    return {
        **customer,
        **_modified(at),
        "NumberOfEmployees": dice.between(1, 12_000),
        "Rating": dice.pick(("Hot", "Warm", "Cold")),
    }


def revise_contact(dice: Dice, contact: JsonObject, at: datetime) -> JsonObject:
    return {**contact, **_modified(at), "Email": words.email(dice), "Title": dice.pick(words.JOB_TITLES)}


def revise_opportunity(dice: Dice, opportunity: JsonObject, at: datetime) -> JsonObject:
    amount = Decimal(dice.between(5_000, 40_000_000)).scaleb(-2)
    stage = _stage_fields(dice, amount)
    return {**opportunity, **_modified(at), **stage, "Amount": amount, "LastStageChangeDate": _time(at)}


def bury(deleted: JsonObject, at: datetime) -> JsonObject:
    """Marks the object as deleted: Salesforce keeps what is in the recycle bin."""
    return {**deleted, **_modified(at), "IsDeleted": True}


SALESFORCE = Provider(
    name="salesforce",
    kinds=(
        Kind("account", 480, make_account, revise_account, bury),
        Kind("contact", 960, make_contact, revise_contact, bury),
        Kind("opportunity", 660, make_opportunity, revise_opportunity, bury),
    ),
    id_key="Id",
)
