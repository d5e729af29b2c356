"""What drivers read, in each language. Each text has a short form for displays of 20 to 39 columns and
a medium one from 40 on; `{...}` is filled in. Plain words, no exclamation, nothing that blames.

Only characters of code page 437 are used, the default set of a ZVT terminal: no euro sign,
no typographic quotes or dashes.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.ports import Reason

SHORT_COLUMNS = 20
MEDIUM_COLUMNS = 40
LANGUAGES = ("en", "de")


class Words(NamedTuple):
    short: str
    medium: str


def _same(text: str) -> Words:
    return Words(text, text)


_EN: dict[str, Words] = {
    # price screen
    "per_kwh": _same("{price}/kWh"),
    "per_minute": Words("{price}/min", "{price} per minute charging"),
    "idle_minute": Words("Idle {price}/min", "{price} per minute not charging"),
    "start_fee": Words("Fee {price}", "{price} per session"),
    "free": Words("Free of charge", "Charging is free of charge"),
    "with_vat": Words("incl. VAT {percent}%", "Prices include {percent}% VAT"),
    "tap_to_start": Words("Tap card to start", "Tap your card to start"),
    "plug_first": Words("Plug in, then tap", "Plug in your car, then tap your card"),
    # hold notice: said before the tap, because a hold looks like a charge on a statement
    "hold": Words("Hold {amount}", "We reserve {amount} on your card."),
    "hold_notice": _same("We reserve {amount}. You pay only what you charge."),
    # between tap and energy
    "please_wait": Words("Please wait", "Please wait"),
    "keep_card": Words("Keep card here", "Keep your card at the reader"),
    "follow_terminal": Words("Follow terminal", "Follow the terminal's instructions"),
    "remove_card": Words("Remove card", "Please remove your card"),
    "approved": Words("OK. Plug in now", "OK. Plug in your car now"),
    "time_left": Words("{seconds} s left", "{seconds} seconds left"),
    "starting": Words("Starting...", "Charging starts..."),
    # running
    "charging": Words("Charging", "Charging"),
    "paused": Words("Car has paused", "Your car has paused charging"),
    "energy": Words("{energy}", "Energy {energy}"),
    "duration": Words("Time {time}", "Time {time}"),
    "cost": Words("Cost {amount}", "Cost so far {amount}"),
    "tap_to_stop": Words("Same card to stop", "Tap the same card to stop"),
    "unplug_to_stop": Words("Unplug to stop", "Unplug your car to stop"),
    "offline": Words("Receipt comes later", "Digital receipt available later"),
    "limit_near": Words("Hold is nearly used", "The amount reserved is nearly used up"),
    # end
    "stopping": Words("Calculating...", "Stopping and calculating..."),
    "done": Words("Thank you", "Thank you for charging"),
    "total": Words("Total {amount}", "Total {amount}"),
    "card": Words("Card ****{last4}", "Card ****{last4}"),
    "released": Words("Freed {amount}", "{amount} of the hold is freed"),
    "unplug": Words("Please unplug", "Please unplug your car"),
    "receipt_code": Words("Receipt {code}", "Your receipt: {code}"),
    # trouble
    "no_charge": Words("No charge was made", "No charge was made"),
    "pay_only": Words("You pay {amount}", "You pay only {amount}"),
    "fault": Words("Sorry, a fault", "Sorry, charging stopped by a fault"),
    "code": Words("Code {code}", "Fault code {code}"),
    "helpline": Words("Help {phone}", "Help: {phone}"),
    "out_of_order": Words("Out of order", "Card payment is out of order"),
    "come_back": Words("Please use another", "Please use another charging point"),
    "checking": Words("Checking payment", "We are checking your payment"),
    "not_twice": Words("You never pay twice", "You are never charged twice"),
    "other_card": Words("Other card in use", "Another card started this session"),
    "busy": Words("Please wait a turn", "Another driver is starting. Please wait"),
    "occupied": Words("Already in use", "This charging point is in use"),
    "unplugged_free": Words("Hold is freed", "Not started. The hold is freed"),
    "estop": Words("Emergency stop", "Emergency stop was pressed"),
    # why a card was refused, and what to try
    "declined": Words("Card was declined", "Your bank declined the card"),
    "try_declined": Words("Try another card", "Please try another card"),
    "card_removed": Words("No card seen", "Card was removed, or none was seen"),
    "try_card_removed": Words("Please tap again", "Please tap again, hold the card still"),
    "card_not_accepted": Words("Card not accepted", "This card is not accepted here"),
    "try_card_not_accepted": Words("Try another card", "Please try another card"),
    "pin_required": Words("PIN is needed", "Your bank asks for a PIN"),
    "try_pin_required": Words("Insert card or phone", "Insert the card, or pay with your phone"),
    "amount": Words("Amount not possible", "The amount to reserve was refused"),
    "try_amount": Words("Try another card", "Please try another card"),
    "try_later": Words("Bank not reached", "The bank cannot be reached now"),
    "try_try_later": Words("Try in a minute", "Please try again in a minute"),
    "operator": Words("Terminal not ready", "The card terminal is not ready"),
    "try_operator": Words("Please try later", "Please try later or call us"),
    "unknown_hold": Words("Payment unclear", "The payment is unclear"),
    "try_unknown_hold": Words("Please call us", "Please call us"),
    "not_supported": Words("Card not possible", "This kind of card is not possible"),
    "try_not_supported": Words("Try another card", "Please try another card"),
    # receipt
    "r_vat_id": _same("VAT ID"),
    "r_receipt": _same("Receipt"),
    "r_station": _same("Station"),
    "r_evse": _same("Charger"),
    "r_start": _same("Start"),
    "r_stop": _same("Stop"),
    "r_clock": _same("Time not verified"),
    "r_meter": _same("Meter no."),
    "r_meter_start": Words("Meter 1", "Meter start"),
    "r_meter_stop": Words("Meter 2", "Meter stop"),
    "r_energy": _same("Energy"),
    "r_time": _same("Charging"),
    "r_parking": _same("Idle"),
    "r_fixed": _same("Start fee"),
    "r_rounding": _same("Rounding"),
    "r_total": _same("TOTAL"),
    "r_net": _same("Net"),
    "r_vat": _same("incl. VAT {percent}%"),
    "r_estimated": _same("End: last valid meter reading"),
    "r_no_charge": _same("NO CHARGE"),
    "r_card": _same("Card"),
    "r_terminal": _same("Terminal"),
    "r_trace": _same("Trace"),
    "r_terminal_receipt": Words("Slip no.", "Terminal receipt"),
    "r_aid": _same("AID"),
    "r_held": _same("Held"),
    "r_charged": _same("Charged"),
    "r_released": _same("Released"),
    "r_not_collected": _same("Not collected"),
    "r_owed": _same("Still owed"),
    "r_tariff": _same("Tariff"),
    "r_record": _same("Record"),
    "r_key": _same("Key"),
    "r_help": _same("Help"),
    "r_digital": _same("Digital receipt:"),
    "r_pending": Words("Payment is checked", "The payment is being checked"),
}

_DE: dict[str, Words] = {
    "per_kwh": _same("{price}/kWh"),
    "per_minute": Words("{price}/min", "{price} je Minute Laden"),
    "idle_minute": Words("Stand {price}/min", "{price} je Minute ohne Laden"),
    "start_fee": Words("Gebühr {price}", "{price} je Ladevorgang"),
    "free": Words("Kostenlos", "Das Laden ist kostenlos"),
    "with_vat": Words("inkl. {percent}% MwSt", "Preise inkl. {percent}% MwSt"),
    "tap_to_start": Words("Start: Karte zeigen", "Zum Start Karte vorhalten"),
    "plug_first": Words("Kabel, dann Karte", "Erst Kabel stecken, dann Karte zeigen"),
    "hold": Words("Reserve {amount}", "Wir reservieren {amount}."),
    "hold_notice": _same("Wir reservieren {amount}. Sie zahlen nur, was Sie laden."),
    "please_wait": Words("Bitte warten", "Bitte warten"),
    "keep_card": Words("Karte dranlassen", "Karte bitte am Leser lassen"),
    "follow_terminal": Words("Terminal beachten", "Bitte dem Kartenterminal folgen"),
    "remove_card": Words("Karte entfernen", "Bitte Karte entfernen"),
    "approved": Words("OK. Kabel stecken", "OK. Bitte jetzt Kabel stecken"),
    "time_left": Words("noch {seconds} s", "noch {seconds} Sekunden"),
    "starting": Words("Laden startet...", "Der Ladevorgang startet..."),
    "charging": Words("Es wird geladen", "Es wird geladen"),
    "paused": Words("Auto pausiert", "Ihr Auto hat das Laden unterbrochen"),
    "energy": Words("{energy}", "Energie {energy}"),
    "duration": Words("Zeit {time}", "Zeit {time}"),
    "cost": Words("Preis {amount}", "Kosten bisher {amount}"),
    "tap_to_stop": Words("Stopp: gleiche Karte", "Zum Beenden gleiche Karte vorhalten"),
    "unplug_to_stop": Words("Stopp: Kabel ziehen", "Zum Beenden Kabel ziehen"),
    "offline": Words("Beleg folgt später", "Digitaler Beleg folgt später"),
    "limit_near": Words("Reserve fast leer", "Die Reservierung ist fast verbraucht"),
    "stopping": Words("Wird berechnet...", "Wird beendet und berechnet..."),
    "done": Words("Vielen Dank", "Vielen Dank fürs Laden"),
    "total": Words("Summe {amount}", "Summe {amount}"),
    "card": Words("Karte ****{last4}", "Karte ****{last4}"),
    "released": Words("Frei {amount}", "{amount} werden wieder frei"),
    "unplug": Words("Bitte Kabel ziehen", "Bitte Kabel ziehen"),
    "receipt_code": Words("Beleg {code}", "Ihr Beleg: {code}"),
    "no_charge": Words("Nichts berechnet", "Es wurde nichts berechnet"),
    "pay_only": Words("Preis {amount}", "Sie zahlen nur {amount}"),
    "fault": Words("Leider Störung", "Leider: eine Störung beendet das Laden"),
    "code": Words("Code {code}", "Störungscode {code}"),
    "helpline": Words("Tel. {phone}", "Hilfe: {phone}"),
    "out_of_order": Words("Außer Betrieb", "Kartenzahlung außer Betrieb"),
    "come_back": Words("Andere Säule nutzen", "Bitte eine andere Ladesäule nutzen"),
    "checking": Words("Zahlung in Prüfung", "Ihre Zahlung wird geprüft"),
    "not_twice": Words("Nie doppelt bezahlt", "Es wird nie doppelt abgebucht"),
    "other_card": Words("Andere Karte aktiv", "Gestartet wurde mit anderer Karte"),
    "busy": Words("Bitte kurz warten", "Ein anderer startet gerade. Bitte warten"),
    "occupied": Words("Schon belegt", "Dieser Ladepunkt ist belegt"),
    "unplugged_free": Words("Reserve wird frei", "Kein Start. Die Reserve wird frei"),
    "estop": Words("Not-Aus gedrückt", "Der Not-Aus wurde gedrückt"),
    "declined": Words("Karte abgelehnt", "Ihre Bank hat die Karte abgelehnt"),
    "try_declined": Words("Andere Karte bitte", "Bitte eine andere Karte versuchen"),
    "card_removed": Words("Keine Karte erkannt", "Karte entfernt oder keine erkannt"),
    "try_card_removed": Words("Bitte noch einmal", "Bitte noch einmal, Karte ruhig halten"),
    "card_not_accepted": Words("Karte geht nicht", "Diese Karte wird nicht akzeptiert"),
    "try_card_not_accepted": Words("Andere Karte bitte", "Bitte eine andere Karte versuchen"),
    "pin_required": Words("PIN ist nötig", "Ihre Bank verlangt eine PIN"),
    "try_pin_required": Words("Stecken oder Handy", "Karte stecken oder mit Handy zahlen"),
    "amount": Words("Betrag nicht möglich", "Der Betrag wurde nicht genehmigt"),
    "try_amount": Words("Andere Karte bitte", "Bitte eine andere Karte versuchen"),
    "try_later": Words("Bank nicht erreicht", "Die Bank ist gerade nicht erreichbar"),
    "try_try_later": Words("Gleich noch einmal", "Bitte in einer Minute noch einmal"),
    "operator": Words("Terminal gestört", "Das Kartenterminal ist nicht bereit"),
    "try_operator": Words("Bitte später", "Bitte später oder anrufen"),
    "unknown_hold": Words("Zahlung unklar", "Die Zahlung ist unklar"),
    "try_unknown_hold": Words("Bitte anrufen", "Bitte rufen Sie uns an"),
    "not_supported": Words("Karte geht nicht", "Diese Kartenart ist nicht möglich"),
    "try_not_supported": Words("Andere Karte bitte", "Bitte eine andere Karte versuchen"),
    "r_vat_id": _same("USt-IdNr."),
    "r_receipt": _same("Beleg"),
    "r_station": _same("Station"),
    "r_evse": _same("Ladepunkt"),
    "r_start": _same("Beginn"),
    "r_stop": _same("Ende"),
    "r_clock": _same("Uhrzeit ungeprüft"),
    "r_meter": _same("Zähler-Nr."),
    "r_meter_start": Words("Zähler 1", "Zählerstand Beginn"),
    "r_meter_stop": Words("Zähler 2", "Zählerstand Ende"),
    "r_energy": _same("Energie"),
    "r_time": _same("Ladezeit"),
    "r_parking": _same("Standzeit"),
    "r_fixed": _same("Startgebühr"),
    "r_rounding": _same("Rundung"),
    "r_total": _same("SUMME"),
    "r_net": _same("Netto"),
    "r_vat": _same("inkl. {percent}% MwSt"),
    "r_estimated": _same("Ende: letzter gültiger Zählerwert"),
    "r_no_charge": _same("NICHTS BERECHNET"),
    "r_card": _same("Karte"),
    "r_terminal": _same("Terminal"),
    "r_trace": _same("Trace"),
    "r_terminal_receipt": Words("Beleg-Nr.", "Terminal-Beleg"),
    "r_aid": _same("AID"),
    "r_held": _same("Reserviert"),
    "r_charged": _same("Belastet"),
    "r_released": _same("Freigegeben"),
    "r_not_collected": _same("Nicht gedeckt"),
    "r_owed": _same("Noch offen"),
    "r_tariff": _same("Tarif"),
    "r_record": _same("Datensatz"),
    "r_key": _same("Schlüssel"),
    "r_help": _same("Hilfe"),
    "r_digital": _same("Digitaler Beleg:"),
    "r_pending": Words("Zahlung in Prüfung", "Die Zahlung wird geprüft"),
}

WORDS: dict[str, dict[str, Words]] = {"en": _EN, "de": _DE}

# Decimal mark by language (CLDR). Amounts carry the ISO code: the euro sign is in no terminal's set.
DECIMAL_MARK = {"en": ".", "de": ","}


def say(language: str, key: str, width: int, **values: str) -> str:
    """The text for a display of `width` columns; English for a language that is not here."""
    words = WORDS.get(language, _EN)[key]
    text = words.medium if width >= MEDIUM_COLUMNS else words.short
    return text.format(**values)


def reason_key(reason: Reason | str) -> str:
    """The key of a refusal's words; an unknown reason reads as a plain refusal."""
    return str(reason) if str(reason) in {str(r) for r in Reason} else "declined"
