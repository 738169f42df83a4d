"""The phones of TIMIT: 61 as they are transcribed, 39 as they are scored, and the speakers of its usual parts.

Folding: Lee and Hon 1989 (Speaker-independent phone recognition using hidden Markov models), as everybody since.
Speakers of the core test: TIMIT's own documentation (testset.doc). Speakers of the development set: Halberstadt 1998,
as listed in Kaldi's recipe (egs/timit/s5/conf/dev_spk.list).
"""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PHONES = _words("""
    aa ae ah ao aw ax ax-h axr ay b bcl ch d dcl dh dx eh el em en eng epi er ey f g gcl h# hh hv ih ix iy jh k kcl l m
    n ng nx ow oy p pau pcl q r s sh t tcl th uh uw ux v w y z zh
""")

# What is scored as something else. The glottal stop q is dropped; all other phones stand for themselves.
_SCORED_AS = {
    "aa": "ao",
    "ah": "ax ax-h",
    "er": "axr",
    "hh": "hv",
    "ih": "ix",
    "l": "el",
    "m": "em",
    "n": "en nx",
    "ng": "eng",
    "sh": "zh",
    "uw": "ux",
    "sil": "bcl dcl gcl pcl tcl kcl epi pau h#",
}
_STANDS_FOR = {phone: scored for scored, phones in _SCORED_AS.items() for phone in _words(phones)}

SCORED = tuple(sorted({_STANDS_FOR.get(phone, phone) for phone in PHONES} - {"q"}))

# For each of the 61, its place among the 39, or -1 for q.
FOLD = tuple(-1 if phone == "q" else SCORED.index(_STANDS_FOR.get(phone, phone)) for phone in PHONES)

CORE_TEST = frozenset(
    _words("""
    mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0
    mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0 mgrt0 mnjm0 fdhc0 mjln0 mpam0 fmld0
""")
)

DEVELOPMENT = frozenset(
    _words("""
    faks0 fdac1 fjem0 mgwt0 mjar0 mmdb1 mmdm2 mpdf0 fcmh0 fkms0 mbdg0 mbwm0 mcsh0 fadg0 fdms0 fedw0 mgjf0 mglb0 mrtk0
    mtaa0 mtdt0 mthc0 mwjg0 fnmr0 frew0 fsem0 mbns0 mmjr0 mdls0 mdlf0 mdvc0 mers0 fmah0 fdrw0 mrcs0 mrjm4 fcal1 mmwh0
    fjsj0 majc0 mjsw0 mreb0 fgjd0 fjmg0 mroa0 mteb0 mjfc0 mrjr0 fmml0 mrws1
""")
)
