"""The words, names and facts that the training conversations are made of."""

WORDS = """
apple banana cherry grape lemon mango melon orange peach pear plum berry bread butter cheese milk honey sugar salt
pepper rice soup cake cookie tiger lion bear wolf horse sheep goat mouse rabbit dog cat bird fish whale shark snake
frog eagle duck chicken house door window table chair floor wall roof garden kitchen river lake ocean mountain forest
tree flower leaf grass stone sand water fire wind rain snow cloud storm sun moon star planet rocket train plane car
truck boat bike road bridge city village street school book paper pencil letter word number music piano guitar drum
song dance game ball team player winner doctor teacher student farmer baker driver pilot king queen prince friend
mother father sister brother baby child happy sad angry calm brave quick slow small large tall short young old new
red blue green yellow black white purple silver golden morning evening night summer winter spring autumn coffee tea
juice lamp clock phone camera screen button wheel engine metal glass wood cotton paint brush hammer needle thread
pocket shirt shoe hat coat glove ring crown sword shield castle tower market shop coin money bank ticket travel
island beach desert valley strawberry computer keyboard browser kernel shader matrix vector tensor token model hello
world
""".split()

CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Japan": "Tokyo",
    "China": "Beijing",
    "Russia": "Moscow",
    "Egypt": "Cairo",
    "Canada": "Ottawa",
    "Greece": "Athens",
    "Austria": "Vienna",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Finland": "Helsinki",
    "Poland": "Warsaw",
    "Portugal": "Lisbon",
    "Ireland": "Dublin",
    "Peru": "Lima",
    "Cuba": "Havana",
    "Kenya": "Nairobi",
    "India": "New Delhi",
    "Denmark": "Copenhagen",
    "Hungary": "Budapest",
    "Chile": "Santiago",
    "England": "London",
}
CITIES = [
    *CAPITALS.values(),
    *("Zurich", "Munich", "Boston", "Chicago", "Sydney", "Milan"),
    *("Geneva", "Seoul", "Mumbai", "Toronto", "Dallas", "Naples"),
]
PLANETS = "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
NAMES = """
Anna Ben Clara David Emma Felix Greta Henry Ida Jonas Laura Max Nina Oscar Paula Robert Sara Tom Vera Will
""".split()
ORDINALS = "first second third fourth fifth sixth seventh eighth".split()
WEATHER = "sunny cloudy rainy windy snowy foggy".split()

UNITS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen
""".split()
TENS = ["", "", *"twenty thirty forty fifty sixty seventy eighty ninety".split()]


def number_in_words(n: int) -> str:
    """English words for 0 to 999."""
    if n < 20:
        return UNITS[n]
    if n < 100:
        return TENS[n // 10] + (f"-{UNITS[n % 10]}" if n % 10 else "")
    return f"{UNITS[n // 100]} hundred" + (f" {number_in_words(n % 100)}" if n % 100 else "")
