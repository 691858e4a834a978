"""The vocabulary of dermoscopy: diagnoses and the criteria that readers look for, in whose words.

Only melanoma has a code here: the criteria have none that was looked up in a terminology server.
"""

from __future__ import annotations

from storyxai.modalities.contract import Code, FindingTerm

DERMOSCOPY: tuple[FindingTerm, ...] = (
    FindingTerm(
        "Melanoma",
        "melanoma",
        "a skin cancer called melanoma",
        ("an atypical naevus", "a pigmented seborrhoeic keratosis", "a pigmented basal cell carcinoma"),
        ("malignant melanoma", "mel", "melanoma in situ", "lentigo maligna"),
        (Code("372244006", "SCT"),),
        focal=False,
    ),
    FindingTerm(
        "Atypical_Naevus",
        "an atypical naevus",
        "an unusual mole",
        ("an early melanoma", "a common naevus", "a recurrent naevus"),
        ("atypical nevus", "dysplastic naevus", "dysplastic nevus", "clark naevus", "clark nevus"),
        focal=False,
    ),
    FindingTerm(
        "Asymmetry",
        "asymmetry of the lesion",
        "a spot whose halves differ",
        ("a lesion cut off by the picture", "a mole under a skin fold"),
        ("asymmetric lesion", "asymmetrical lesion"),
        focal=False,
    ),
    FindingTerm(
        "Atypical_Network",
        "an atypical pigment network",
        "an uneven net of brown lines",
        ("hair over the lesion", "a typical network in tanned skin"),
        ("atypical pigment network", "irregular pigment network", "pigment network"),
    ),
    FindingTerm(
        "Dots_Globules",
        "dots and globules",
        "small dark dots",
        ("milia", "crusts", "hair ends", "blood spots"),
        ("dots and globules", "dots/globules", "globules"),
    ),
    FindingTerm(
        "Streaks",
        "streaks at the edge",
        "dark lines at the edge",
        ("hair over the edge", "a naevus of Reed"),
        ("radial streaming", "pseudopods", "irregular streaks"),
    ),
    FindingTerm(
        "Regression",
        "regression areas",
        "a pale patch in the spot",
        ("a scar", "glare of the lamp", "lichen-planus-like keratosis"),
        ("regression areas", "regression structures"),
    ),
    FindingTerm(
        "Blue_Whitish_Veil",
        "a blue-whitish veil",
        "a bluish haze over the spot",
        ("a blue naevus", "a vascular lesion"),
        ("blue white veil", "blue-white veil", "blue whitish veil"),
    ),
)
NAMES: tuple[str, ...] = tuple(term.name for term in DERMOSCOPY)
