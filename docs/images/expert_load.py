#!/usr/bin/env python3
# Draws expert_load.svg from models/ballast-mini/expert_load.csv: python3 docs/images/expert_load.py
import csv
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAYER = 5
KINDS = [("mixed", "all six kinds of text"), ("math", "sums"), ("es", "scripture in Spanish"), ("go", "Go")]
BAR, GAP, LEFT, HEIGHT, TOP = 14, 3, 168, 64, 34

with open(ROOT / "models/ballast-mini/expert_load.csv") as file:
    rows = [row for row in csv.DictReader(file) if int(row["layer"]) == LAYER]
largest = max(float(row[kind]) for row in rows for kind, _ in KINDS)
width = LEFT + len(rows) * (BAR + GAP) + 20
height = TOP + len(KINDS) * (HEIGHT + 18) + 4
out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
       f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
       f'<text x="12" y="20" fill="#333333">Load of the {len(rows)} experts of layer {LAYER} of ballast-mini; '
       'the line is the mean</text>']
for place, (kind, name) in enumerate(KINDS):
    base = TOP + place * (HEIGHT + 18) + HEIGHT
    loads = [float(row[kind]) for row in rows]
    for expert, load in enumerate(loads):
        tall = HEIGHT * load / largest
        color = "#d1495b" if load >= 2 else "#30638e"
        out.append(f'<rect x="{LEFT + expert * (BAR + GAP)}" y="{base - tall:.1f}" width="{BAR}" '
                   f'height="{tall:.1f}" fill="{color}"><title>expert {expert}: {load:.2f} x the mean</title></rect>')
    mean = base - HEIGHT / largest
    out.append(f'<line x1="{LEFT - 4}" x2="{width - 16}" y1="{mean:.1f}" y2="{mean:.1f}" stroke="#333333" '
               'stroke-dasharray="3 3"/>')
    out.append(f'<text x="12" y="{base - 22}" fill="#333333">{name}</text>')
    out.append(f'<text x="12" y="{base - 5}" fill="#777777">busiest: {max(loads):.1f} x mean</text>')
out.append("</svg>")
(ROOT / "docs/images/expert_load.svg").write_text("\n".join(out) + "\n")
