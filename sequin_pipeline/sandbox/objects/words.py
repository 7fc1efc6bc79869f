"""The objects of all providers are made of these names, places and sentences: all made up, in several scripts on purpose."""

from sequin_pipeline.sandbox.dice import Dice

FIRST_NAMES = (
    "Ada", "Bruno", "Chiara", "Daniel", "Elif", "Farah", "Goran", "Hanna", "Ines", "Jamal", "Katja", "Łukasz", "Mireille", "Nikos",
    "Oona", "Priya", "Quentin", "Rosa", "Søren", "Tomás", "Ulla", "Viktor", "Wanda", "Xin", "Yusuf", "Zoë", "さくら", "Олена",
)  # fmt: skip
LAST_NAMES = (
    "Abreu", "Bergmann", "Castellano", "Dvořák", "Eriksen", "Fontaine", "García", "Haddad", "Ivanova", "Jansen", "Kowalczyk",
    "Lindqvist", "Müller", "Nakamura", "O'Brien", "Papadaki", "Quispe", "Rossi", "Şahin", "Teixeira", "Underwood", "Van der Berg",
    "Weiß", "Xu", "Yamada", "Zielińska",
)  # fmt: skip
COMPANY_HEADS = (
    "Alder", "Bluewater", "Copperfield", "Dovetail", "Eastgate", "Fjord", "Granite", "Harbour", "Ironwood", "Juniper", "Kestrel",
    "Lumen", "Meridian", "Northwind", "Ostara", "Pinecrest", "Quarry", "Rosewood", "Saltmarsh", "Tidewater", "Umbra", "Violet",
)  # fmt: skip
COMPANY_TAILS = (
    "Analytics",
    "Bakery",
    "Cycles",
    "Design",
    "Energy",
    "Foods",
    "Freight",
    "Instruments",
    "Labs",
    "Optics",
    "Textiles",
)
COMPANY_FORMS = ("Ltd", "GmbH", "Inc.", "S.A.", "AB", "& Söhne", "株式会社")
STREETS = ("Harbour Street", "Mill Lane", "Rue des Lilas", "Lindenallee", "Calle Mayor", "Station Road", "Via Roma", "Storgatan")
PLACES = (
    ("Lyon", "FR", "69002", "fr"),
    ("Hamburg", "DE", "20095", "de"),
    ("Leeds", "GB", "LS1 4AP", "en"),
    ("Portland", "US", "97205", "en"),
    ("Göteborg", "SE", "411 06", "sv"),
    ("São Paulo", "BR", "01310-100", "pt"),
    ("Kraków", "PL", "31-042", "pl"),
    ("京都市", "JP", "604-8005", "ja"),
)
"""These are city, country (ISO 3166), postal code and language."""
CURRENCIES = ("usd", "usd", "usd", "eur", "eur", "gbp", "sek", "jpy")
INDUSTRIES = ("Agriculture", "Construction", "Education", "Energy", "Finance", "Healthcare", "Hospitality", "Logistics", "Retail")
JOB_TITLES = (
    "Head of Operations",
    "Buyer",
    "Data Engineer",
    "Chief Financial Officer",
    "Founder",
    "Office Manager",
    "Accountant",
)
SENTENCES = (
    "The export stops after the first thousand rows when the report spans two fiscal years.",
    "Asked for a quote with yearly billing; wants to see the terms before the end of the month.",
    "Works as described since the last release, but only when the window is wider than the table.",
    "Retrying the upload with the same key creates a second file instead of replacing the first one.",
    "They compare us with two other vendors and will decide after the trial — the integration matters most.",
    "Größere Anhänge werden beim Speichern abgeschnitten, ohne dass eine Meldung erscheint.",
    "Steps to repeat: open the dashboard, change the time zone, reload. Totals move by one day. 🕰️",
    "Prefers to be called in the morning. Speaks French and English; invoices go to the branch office.",
    "見積書の送付先を本社に変更してほしいとのこと。",
    "The second paragraph still mentions the old limits; the table below it is right.",
    "Renewal is due next quarter, and the number of seats will probably double.",
    "Sorting by date puts the entries without a date first, which nobody expects.",
)


def person(dice: Dice) -> tuple[str, str]:
    """Returns a first and a last name."""
    return dice.pick(FIRST_NAMES), dice.pick(LAST_NAMES)


def company(dice: Dice) -> str:
    return f"{dice.pick(COMPANY_HEADS)} {dice.pick(COMPANY_TAILS)} {dice.pick(COMPANY_FORMS)}"


def domain(dice: Dice) -> str:
    """Returns a host name that nobody can own (RFC 2606)."""
    return f"{dice.pick(COMPANY_HEADS)}-{dice.pick(COMPANY_TAILS)}.example".lower()


def email(dice: Dice) -> str:
    return f"{dice.pick(COMPANY_HEADS)}.{dice.token(5, 'abcdefghijklmnopqrstuvwxyz')}@{domain(dice)}".lower()


def phone(dice: Dice) -> str:
    return f"+1 555 01{dice.between(10, 99)}"


def text(dice: Dice, sentences: int) -> str:
    return " ".join([dice.pick(SENTENCES) for _ in range(sentences)])
