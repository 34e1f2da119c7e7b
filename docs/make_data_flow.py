"""Draws docs/data-flow.svg: the way of a request through the server. Run: python3 docs/make_data_flow.py"""
import html
import os

BOXES = [  # x, y, width, height, title, lines, colour
    (20, 40, 150, 84, "client", ["lukv-client, grpcurl,", "any gRPC client"], "#eef2f7"),
    (230, 36, 190, 96, "server/", ["checks the request,", "tokenizes, streams text;", "health, reflection, metrics"], "#e3effd"),
    (490, 22, 300, 124, "engine/ (one thread)", ["intake → plan → admit", "→ prefill unit (layer, chunk)", "→ decode step of all sequences", "→ sample → emit"],
     "#e5f5e8"),
    (860, 40, 190, 84, "kernels/ (backend)", ["CPU: AVX2, AVX-512, VNNI", "chosen at run time"], "#fdf0dc"),
    (460, 230, 170, 84, "layer staging", ["K and V of ONE layer", "while it is prefilled"], "#f3e8fa"),
    (690, 230, 170, 84, "ragged page table", ["(slot, layer, kv head)", "→ pages, length"], "#f3e8fa"),
    (900, 230, 150, 84, "page pool", ["64 entries of one", "kv head per page"], "#f3e8fa"),
]
ARROWS = [  # x1, y1, x2, y2, label
    (170, 70, 230, 70, "prompt"),
    (230, 98, 170, 98, "tokens"),
    (420, 70, 490, 70, "request"),
    (490, 98, 420, 98, "outbox"),
    (790, 82, 860, 82, "ops"),
    (560, 146, 560, 230, "each chunk"),
    (630, 272, 690, 272, "compact"),
    (860, 272, 900, 272, ""),
    (775, 230, 890, 124, "decode reads"),
]


def main():
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1070 335" font-family="sans-serif" font-size="13">',
           '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
           '<path d="M0 0 L8 4 L0 8 z" fill="#445"/></marker></defs>', '<rect width="1070" height="335" fill="white"/>']
    for x, y, w, h, title, lines, colour in BOXES:
        out.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="8" fill="{colour}" stroke="#445"/>')
        out.append(f'<text x="{x + w / 2}" y="{y + 22}" text-anchor="middle" font-weight="bold">{html.escape(title)}</text>')
        for i, line in enumerate(lines):
            out.append(f'<text x="{x + w / 2}" y="{y + 44 + 17 * i}" text-anchor="middle">{html.escape(line)}</text>')
    for x1, y1, x2, y2, label in ARROWS:
        out.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#445" stroke-width="1.4" marker-end="url(#a)"/>')
        vertical = x1 == x2
        lx, ly = ((x1 + x2) / 2 + (8 if vertical else 0), (y1 + y2) / 2 + (4 if vertical else -6))
        if x1 != x2 and y1 != y2:
            lx, ly = (x1 + x2) / 2 - 48, (y1 + y2) / 2 + 4
        out.append(f'<text x="{lx}" y="{ly}" text-anchor="{"start" if vertical else "middle"}" font-size="11" fill="#445">{label}</text>')
    out.append("</svg>")
    with open(os.path.join(os.path.dirname(__file__), "data-flow.svg"), "w") as file:
        file.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
