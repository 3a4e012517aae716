"""How the page looks: on a phone, on a wide screen, and on paper."""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1rem 1rem 4rem; max-width: 62rem; background: #fff; color: #1a1a1a;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0 1rem; }
h2 { font-size: 1.25rem; line-height: 1.25; margin: 2.8rem 0 .7rem; padding-top: .7rem; border-top: 2px solid #1a1a1a; }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; }
p, ul, dl { max-width: 44rem; }
a { color: #0b4a8f; }
.verdict { font-size: 1.1rem; padding: .2rem 0 .2rem .9rem; border-left: 5px solid #1a1a1a; }
.note, caption, figcaption { color: #444; font-size: .88rem; }
nav { background: #f3f3f3; padding: .6rem 1rem; border-radius: 6px; }
nav ul { margin: 0; padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.3rem; }
nav a { display: inline-block; padding: .25rem 0; }
.scroll { overflow-x: auto; margin: .8rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; max-width: 44rem; }
@media (max-width: 44rem) { caption { max-width: calc(100vw - 2rem); position: sticky; left: 0; } }
th, td { padding: .3rem .65rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd; }
thead th { border-bottom: 2px solid #1a1a1a; vertical-align: bottom; white-space: normal; }
th:first-child { text-align: left; padding-left: 0; }
tbody th { font-weight: 500; }
@media (max-width: 44rem) {
  .key td, .key th, tbody th { white-space: normal; }
  th, td { padding: .3rem .45rem; }
}
.wrap td { white-space: normal; text-align: left; vertical-align: top; min-width: 11rem; }
.wrap th { vertical-align: top; }
.key th, .key td { vertical-align: top; }
.heat td { text-align: center; border: 2px solid #fff; padding: .45rem .5rem; line-height: 1.2; min-width: 4.6rem; }
.heat thead th { text-align: center; border-bottom: 0; }
.heat thead th:first-child, .heat tbody th { text-align: left; white-space: normal; border: 0; }
.heat b { font-size: 1.15rem; display: block; }
.heat small { font-size: .75rem; }
.heat .none { border: 1px dashed #777; color: #444; }
td small { color: #444; }
.heat td small { color: inherit; }
figure { margin: .8rem 0; }
img, video { max-width: 100%; height: auto; display: block; }
video { width: 44rem; background: #000; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: .9rem .8rem; }
.panels figure { margin: 0; }
.panels figcaption { line-height: 1.3; }
.panels figcaption b { color: #1a1a1a; }
code { font: .85em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: #f3f3f3; padding: .1em .3em;
  border-radius: 3px; overflow-wrap: anywhere; white-space: normal; }
dt { font-weight: 600; margin-top: .5rem; }
dd { margin: 0; }
details { margin: .6rem 0; }
summary { cursor: pointer; color: #0b4a8f; padding: .3rem 0; }
footer { margin-top: 3rem; color: #444; font-size: .85rem; }
@media print {
  body { max-width: none; padding: 0; font-size: 9.5pt; }
  nav, video { display: none; }
  a { color: inherit; text-decoration: none; }
  h2 { break-after: avoid; } h3 { break-after: avoid; }
  figure, tr { break-inside: avoid; }
  .scroll { overflow: visible; }
  .heat td { print-color-adjust: exact; -webkit-print-color-adjust: exact; border-color: #999; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
  summary { color: inherit; }
}
"""
