"""What pages of breast ultrasound say in place of the general words, in English and in German."""

from __future__ import annotations

__all__ = ["WORDS"]

ENGLISH = {
    "image": "breast ultrasound picture", "lay_image": "ultrasound picture",
    "findings.Benign_mass.a": "a benign mass", "findings.Malignant_mass.a": "a malignant mass",
    "clinician.title": "Reading of a breast ultrasound picture",
    "patient.looked": "A computer looked for [findings|len] signs on one ultrasound picture of your breast.",
    "patient.no_old": "It saw no older pictures of your breast.",
    "patient.mean_1": "A sign on a picture does not yet mean that you have cancer.",
    "patient.help": "When to see a doctor soon",
    "patient.help_1": "See a doctor soon if you feel a new lump, or if the skin or nipple changes.",
    "patient.help_2": "See one even if this page found no sign.",
}
GERMAN = {
    "image": "Ultraschallbild der Brust", "lay_image": "Ultraschallbild",
    "findings.Benign_mass.name": "gutartig wirkender Herd", "findings.Benign_mass.genitive": "des gutartig wirkenden Herdes",
    "findings.Benign_mass.a": "ein gutartig wirkender Herd", "findings.Benign_mass.of_a": "eines gutartig wirkenden Herdes",
    "findings.Benign_mass.phrase": "ein Herd, der gutartig wirkt",
    "findings.Benign_mass.lay": "einen Knoten, der harmlos wirkt",
    "findings.Benign_mass.look_alikes": "Fettläppchen; Zyste; Schatten hinter einer Rippe",
    "findings.Malignant_mass.name": "bösartig wirkender Herd",
    "findings.Malignant_mass.genitive": "des bösartig wirkenden Herdes",
    "findings.Malignant_mass.a": "ein bösartig wirkender Herd",
    "findings.Malignant_mass.of_a": "eines bösartig wirkenden Herdes",
    "findings.Malignant_mass.phrase": "ein Herd, der bösartig wirkt",
    "findings.Malignant_mass.lay": "einen Knoten, der genauer anzusehen ist",
    "findings.Malignant_mass.look_alikes": "Narbe; Entzündung; Fibroadenom mit Kalk",
    "structures.mass": "der Herd",
    "gate.layers.fine": "Die Schichten liegen quer wie auf einem Ultraschallbild.",
    "gate.layers.seen": "Das Bild hat keine Schichten, die quer liegen, wie ein Ultraschallbild sie hat",
    "gate.layers.mend": "bitte ein B-Bild der Brust vorlegen, auf das Bild selbst zugeschnitten",
    "gate.fades.fine": "Das Bild wird zur Tiefe hin dunkler wie ein Ultraschallbild.",
    "gate.fades.seen": "Das Bild wird zur Tiefe hin nicht dunkler, wie ein Ultraschallbild es wird",
    "gate.fades.mend": "bitte ein B-Bild der Brust vorlegen, auf das Bild selbst zugeschnitten",
    "tables.rule.layers": "Schichten", "tables.rule.fades": "Abfall zur Tiefe",
    "tables.lay_limit.what lies outside the picture": "Stellen außerhalb des Bildes",
    "tables.lay_limit.lymph nodes of the armpit": "Knoten in der Achsel",
    "quotes.what lies outside the picture": "was außerhalb des Bildes liegt",
    "quotes.lymph nodes of the armpit": "Lymphknoten der Achsel",
    "quotes.calcium without a mass": "Kalk ohne Herd",
    "quotes.change over time": "Veränderung im Verlauf",
    "quotes.One ultrasound picture at a time: no sweep, no elastography, no Doppler, no earlier examination is read.":
        "Ein Ultraschallbild auf einmal: Schwenk, Elastografie, Doppler und frühere Untersuchungen werden nicht gelesen.",
    "quotes.BUSI's pictures are of 600 women of one hospital, chosen for what they show, and publish no patients.":
        "Die Bilder von BUSI zeigen 600 Frauen eines Krankenhauses, sind danach gewählt, was sie zeigen, und nennen niemanden.",
    "quotes.BUSI holds near duplicates and pictures with text and marks on them.":
        "BUSI enthält fast gleiche Bilder und solche mit Schrift und Marken darauf.",
    "clinician.title": "Beurteilung eines Ultraschallbildes der Brust",
    "patient.looked": "Ein Computer hat auf einem Ultraschallbild Ihrer Brust nach [findings|len] Zeichen gesucht.",
    "patient.no_old": "Ältere Bilder Ihrer Brust kennt er nicht.",
    "patient.mean_1": "Ein Zeichen auf einem Bild heißt noch nicht, dass Sie Krebs haben.",
    "patient.help": "Wann Sie bald zum Arzt gehen sollten",
    "patient.help_1": "Gehen Sie bald zum Arzt, wenn Sie einen neuen Knoten tasten oder Haut oder Brustwarze sich ändern.",
    "patient.help_2": "Gehen Sie auch hin, wenn diese Seite kein Zeichen nennt.",
}
WORDS = {"en": ENGLISH, "de": GERMAN}
"""Keys: `storyxai/modalities/words.py`."""
