"""The strings that the tokenizer goldens are made over: deterministic, >= 2,000, many scripts and nasty corners."""

import random
import unicodedata

SENTENCES = """\
The quick brown fox jumps over the lazy dog, doesn't it? They'll say we've 1,234.56 reasons; I'd say I'm sure.
Größe, Straße, Übermut und Äpfel: „Zitat“ – 50 % mehr für 3,99 €.
L'été dernier, j'ai mangé une crème brûlée à Besançon ; c'était « très bon » !
El niño comió piñatas en México, ¿verdad? ¡Claro que sí!
A ação começou às 17h30 no São João; não há razão.
Zażółć gęślą jaźń. Pchnąć w tę łódź jeża lub ośm skrzyń fig.
Příliš žluťoučký kůň úpěl ďábelské ódy.
Árvíztűrő tükörfúrógép a kertben.
Pijamalı hasta yağız şoföre çabucak güvendi. İstanbul ılık.
Съешь же ещё этих мягких французских булок, да выпей чаю. 2024 год.
Щастям б'єш жук їх глицю в фон й ґедзь пріч.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία· τι λες;
דג סקרן שט בים מאוכזב ולפתע מצא חברה. בְּרֵאשִׁית בָּרָא
نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر. ١٢٣٤٥ بِسْمِ ٱللَّهِ
پیشینه‌ی زبان فارسی به سده‌ها می‌رسد؛ ۱۲۳۴۵۶۷۸۹۰
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश। १२३४५
আমি বাংলায় গান গাই। ১২৩৪৫
ਪੰਜਾਬੀ ਬੋਲੀ ਬਹੁਤ ਮਿੱਠੀ ਹੈ।
தமிழ் மொழி மிகவும் பழமையானது. ௧௨௩
తెలుగు భాష చాలా మధురమైనది.
ಕನ್ನಡ ಭಾಷೆ ಸುಂದರವಾಗಿದೆ.
മലയാളം ഒരു ദ്രാവിഡ ഭാഷയാണ്.
සිංහල භාෂාව ශ්‍රී ලංකාවේ කතා කරයි.
เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน ๑๒๓๔
ພາສາລາວ ແມ່ນພາສາທາງການ.
မြန်မာဘာသာစကား ၁၂၃၄
ភាសាខ្មែរ ជាភាសាផ្លូវការ។
ქართული ენა ძალიან ლამაზია.
Հայերեն լեզուն հին է։
አማርኛ የኢትዮጵያ ቋንቋ ነው። ፩፪፫
いろはにほへと ちりぬるを。我が世誰ぞ常ならむ、有為の奥山今日越えて。カタカナとﾊﾝｶｸ!
天地玄黄,宇宙洪荒。日月盈昃,辰宿列张。一九八四年,第3章;价格:¥100。
다람쥐 헌 쳇바퀴에 타고파. 한국어는 2024년에도 아름답다.
Tiếng Việt có dấu: ăâđêôơư ẵ ễ ộ ợ. Tôi yêu Hà Nội!
ᚠᛇᚻ᛫ᛒᛦᚦ᛫ᚠᚱᚩᚠᚢᚱ 𐌼𐌰𐌲 𐌲𐌻𐌴𐍃 𐤀𐤁𐤂 𓀀𓁐 𒀀𒁀
ᠮᠣᠩᠭᠣᠯ\u180eᠤᠨ བོད་སྐད་ ᏣᎳᎩ ᐃᓄᒃᑎᑐᑦ
∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β = ¬(¬α ∨ β), ∑ᵢ xᵢ² ≤ ∞, ½ + ⅓ = ⅚, Ⅷ ⅻ ① ㊿ ₁₂³⁴
Ａｌｌ　ｆｕｌｌｗｉｄｔｈ　１２３４５！？
𝕸𝖆𝖙𝖍𝖊𝖒𝖆𝖙𝖎𝖈𝖆𝖑 𝟏𝟐𝟑𝟜𝟝 ℌ𝓮𝓵𝓵𝓸
""".splitlines()

CODE = [
    "#include <stdio.h>\nint main(int argc, char** argv) {\n\tprintf(\"%d\\n\", argc);\n\treturn 0;\n}\n",
    "def f(x, *, y=None):\n    \"\"\"Doc.\"\"\"\n    return {k: v for k, v in x.items() if v != y}\n\n\nclass A:\n    pass\n",
    "SELECT a.id, COUNT(*) AS n FROM t a LEFT JOIN u ON a.id=u.id WHERE a.x <> 'it''s' GROUP BY 1;",
    "<div class=\"a b\" data-x='1'>\r\n  <p>Hello&nbsp;&amp; bye</p>\r\n</div>\r\n",
    "{\"key\": [1, 2.5e-10, null, true], \"s\": \"\\u00e9\\n\"}",
    "for i in $(seq 1 10); do echo \"$i: ${HOME}/x_$i.tar.gz\" >> /tmp/a.log 2>&1; done",
    "let v: Vec<Option<&'static str>> = vec![]; // 'a 't 's\nfn x<'a>(y: &'a mut i32) -> Result<(), Box<dyn E>> {}",
    "template <typename T> constexpr auto k = requires(T t) { { t + 1 } -> std::same_as<T>; };",
    "https://example.com/a/b?c=d&e=%20f#g user@example.org 192.168.0.1:8080 2001:db8::1",
    "\\frac{\\partial f}{\\partial x} = \\int_0^\\infty e^{-x^2}\\,dx",
    "x+=1;y-=2;z*=3;a<<=4;b>>>=5;c=!d||e&&f;g??=h;i=>j",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case dot.case path/to/file C:\\Windows\\x.dll",
]

CONTRACTIONS = ["I'm", "you're", "he's", "we've", "they'll", "she'd", "can't", "IT'S", "YOU'RE", "WE'VE", "I'M", "DON'T",
                "He'D", "'s", "'S", "'t", "'T", "'re", "'Re", "'rE", "'ll", "'LL", "'lL", "'x", "'\u017f", "it'\u017f x", "''s",
                "'s's", "o'clock", "rock'n'roll", "x'1", "'\u212a", "l\u2019ami", "it\u2019s", "'mm", "'dd", "'tt", "'st", "'v", "'l"]

SPACES = [" ", "  ", "   ", "    ", "        ", " " * 17, " " * 40, "\t", "\t\t", "\t\t\t ", " \t ", "\n", "\n\n", "\n\n\n", "\r\n", "\r\n\r\n",
          "\r", "\r\r", " \n", "\n ", " \n ", "  \n  \n  ", " \r\n \r\n", "\n\t", "\t\n", "\u00a0", "\u00a0\u00a0", " \u00a0 ", "\u2003",
          "\u2009\u200a", "\u3000", "\u3000\u3000", "\u202f", "\u205f", "\u1680", "\u0085", "\u2028", "\u2029", "\x0b", "\x0c", "\x0b\x0c ",
          "\u180e", "\u200b", "\ufeff", "\u2060", "\x1c", "\x1d\x1e\x1f"]

DIGITS = ["0", "7", "42", "100", "123", "1234", "12345", "123456", "1234567", "1,000,000", "3.14159", "-273.15", "1e10", "0x1F600",
          "2024-02-29", "12:34:56", "+1-800-555-0199", "٣٤٥٦", "१२३४", "๑๒", "一二三", "½", "²³", "Ⅳ", "①②③", "𝟘𝟙", "১২৩৪৫৬৭", "1\u0300"]

EMOJI = ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "❤️", "❤", "👩🏿‍🚀", "1️⃣", "🧑‍🤝‍🧑", "☎️", "✌🏻", "🫠", "🐈‍⬛", "©", "™️", "⏰⌛", "♻️", "🀄", "🂡"]

COMBINING = ["e\u0301", "é", "A\u030a", "Å", "\u212b", "n\u0303o\u0302", "\u1e9b\u0323", "q\u0307\u0323", "q\u0323\u0307", "\u1100\u1161\u11a8", "각",
             "\u0958", "\u0915\u093c", "a\u0315\u0300\u05ae\u0300b", "\u0344", "\u0340\u0341", "\u2126", "\u1fee", "Z\u0351\u036b\u0343a\u0335l\u0361g\u0334o",
             "\u0301", "\u0301\u0301 x", "\u0b47\u0b3e", "\u0dd9\u0dcf\u0dca", "\ufb1d", "\uf900", "\U0002f800", "\u1112\u1161\u11ab\u1100\u1173\u11af"]

PUNCTUATION = ["!", "?!", "...", "…", "--", "—", "“x”", "«y»", "()", "[]{}", "<>", "::", "->", "=>", "==", "!==", "&&", "||", "/*", "*/", "//", "#",
               "$", "€£¥₹", "%", "^", "~", "`", "```", "|", "\\", "_", "__", "@", "\"", "'", "·", "•", "¿", "¡", "§", "¶", "†", "°", "、。", "「」", "!!!!!!!!"]

LOOKALIKES = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_start|>user\nhi<|im_end|>\n", "<|im_start", "im_end|>", "<|im_end|", "<<|im_end|>>",
              "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>system<|end_header_id|>\n\n", "<s>", "</s>", "<unk>", "<s>[INST] x [/INST]", "[INST]",
              "<0x0A>", "<0x20>", "<|endoftext|><|endoftext|>", " <|endoftext|> ", "<|END|>", "<tool>", "<tool>a", "<tool", "<tool_call>", "< s>",
              "<repo_name>", "<|im_start|>  ", "  <|im_end|>", "\n<|im_end|>\n", "a<s>b", "\u2581", "\u2581\u2581x", "x\u2581y", "Ġ", "Ċ", "âĢĻ"]

CONTROLS = ["\x00", "\x01\x02", "\x04", "\x06", "\x07", "\x08", "\x13\x14\x16", "\x1b[31m", "\x7f", "\x80", "\x9f", "a\x00b", "\ue000", "\ufffd", "\uffff", "\U000e0001",
            "\U0010ffff", "\u202e", "\u00ad", "\u200d", "\u200c", "\U000f0000"]

RANGES = [(0x20, 0x7E, 12), (0xA0, 0xFF, 4), (0x100, 0x24F, 3), (0x250, 0x2FF, 1), (0x300, 0x36F, 2), (0x370, 0x52F, 3), (0x531, 0x5F4, 1), (0x600, 0x6FF, 2),
          (0x900, 0xDFF, 4), (0xE01, 0xE5B, 1), (0x1000, 0x109F, 1), (0x1100, 0x11FF, 1), (0x1200, 0x137C, 1), (0x13A0, 0x13F5, 1), (0x1E00, 0x1FFE, 2), (0x2000, 0x206F, 2),
          (0x2070, 0x218B, 2), (0x2190, 0x23FF, 1), (0x2460, 0x27BF, 1), (0x2C00, 0x2DFF, 1), (0x3000, 0x30FF, 3), (0x3130, 0x33FF, 1), (0x4E00, 0x9FA5, 4), (0xA000, 0xA6F7, 1),
          (0xAC00, 0xD7A3, 3), (0xF900, 0xFAD9, 1), (0xFB00, 0xFDFF, 1), (0xFE20, 0xFFEE, 2), (0x10000, 0x104FF, 1), (0x1D400, 0x1D7FF, 1), (0x1F300, 0x1F6C5, 2), (0x20000, 0x2A6D6, 1)]

# Unassigned code points could be letters to one library and nothing to another; Unicode 14 is what PCRE2 10.42 knows.
assert unicodedata.unidata_version == "14.0.0", "run with Python 3.11"


def random_text(rng, length):
    out = []
    weights = [w for _, _, w in RANGES]
    while len(out) < length:
        low, high, _ = rng.choices(RANGES, weights)[0]
        for _ in range(rng.randint(1, 6)):
            c = chr(rng.randint(low, high))
            if unicodedata.category(c) != "Cn":
                out.append(c)
    return "".join(out)


def make():
    rng = random.Random(20240229)
    words = [w for s in SENTENCES for w in s.split(" ")]
    pools = [words, words, words, CONTRACTIONS, SPACES, SPACES, DIGITS, EMOJI, COMBINING, PUNCTUATION, LOOKALIKES, CONTROLS]
    strings = ["", *SENTENCES, *CODE]
    for pool in (CONTRACTIONS, SPACES, DIGITS, EMOJI, COMBINING, PUNCTUATION, LOOKALIKES, CONTROLS):
        strings += pool
    for space in SPACES:
        strings += [f"a{space}b", f"{space}a", f"a{space}", f"1{space}2", f"!{space}?", f"a {space}1", f"{space} \n{space}x"]
    for digits in DIGITS:
        strings += [f"x{digits}y", f" {digits} ", f"v{digits}.{digits}", f"  {digits}"]
    for lookalike in LOOKALIKES:
        strings += [f"x {lookalike} y", f"{lookalike}  z", f"1{lookalike}2"]
    for n in (2, 3, 4, 5, 7, 8, 15, 16, 31, 64, 200):
        strings += ["a" * n, "A" * n, "9" * n, "!" * n, "=" * n, "\n" * n, "é" * n, "字" * n, "😀" * (n // 2), " a" * n, "ha" * n]
    while len(strings) < 1900:  # Mixtures.
        glue = rng.choice(["", "", " ", " ", "\n"])
        strings.append(glue.join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(2, 12))))
    while len(strings) < 2200:  # Any assigned code points.
        strings.append(random_text(rng, rng.randint(1, 60)))
    # Longer texts: sentences and code, joined.
    for _ in range(20):
        strings.append(rng.choice([" ", "\n", "\n\n"]).join(rng.choice(SENTENCES + CODE) for _ in range(6)))
    return strings
