"""The style of the report: that of the status page, with charts, the gallery and a form for paper."""

from __future__ import annotations

from backend.pages.html import asset
from backend.pages.markup import Markup

_REPORT_STYLE = """
html{scroll-behavior:smooth;scroll-padding-top:12px}
header{flex-wrap:wrap;gap:4px 14px} header nav{margin-left:auto;display:flex;flex-wrap:wrap;gap:4px 16px}
header nav a{margin:0}
h2{font-size:17px;font-weight:640;color:var(--text);margin:34px 0 12px}
.under{margin:-8px 0 12px} h4{margin:0}
.notes{margin-bottom:14px} .notes p{margin:0} .notes p+p{margin-top:10px}
.tiles{margin-top:0} .tile .big{font-size:19px} .tile.doubt dd.big{color:var(--doubt)}
.tile.wrong dd.big{color:var(--bad)}
.tile.doubt dd,.tile.wrong dd{color:var(--soft)}
.shares{margin-top:12px!important} .shares svg.bar{height:14px;border-radius:7px;margin:2px 0 10px}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 22px;margin:0;padding:0;font-size:13px;
color:var(--soft)}
.legend b{color:var(--text);margin-left:6px}
.legend i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px;background:var(--track)}
.p-good{fill:var(--good)} .p-doubt{fill:var(--amber)} .p-bad{fill:var(--bad)} .p-left{fill:var(--track)}
.legend .d-good{background:var(--good)} .legend .d-doubt{background:var(--amber)}
.legend .d-bad{background:var(--bad)}
:root{--amber:#e3a13a} @media (prefers-color-scheme:dark){:root{--amber:#c98d2e}}
.halves{display:grid;grid-template-columns:1fr 1fr;gap:14px;align-items:stretch} .halves .card+.card{margin:0}
.sides{display:grid;grid-template-columns:minmax(0,3fr) minmax(0,2fr);gap:0 36px;margin-top:12px}
.sides>div+div{border-left:1px solid var(--line);padding-left:28px}
table.bars{margin:0;table-layout:fixed} table.bars tr+tr td{border:0}
table.bars th{font-weight:400;text-align:left;padding:3px 14px 3px 0;vertical-align:middle}
table.bars td{padding:3px 0;vertical-align:middle}
col.name{width:36%} col.num{width:4.2em} col.share{width:4.4em}
table.bars .num.soft{font-weight:400} .above{color:var(--soft)}
table.bars tr.rest th{color:var(--soft)}
svg.line{display:block;width:100%;height:14px} svg.line rect{fill:var(--accent);rx:3px}
.rest svg.line rect{fill:var(--soft);opacity:.45}
.doubts svg.line rect{fill:var(--amber)} .doubts col.name{width:52%} .doubts table.bars{margin-top:8px}
figure{margin:10px 0 0} svg.histogram{display:block;width:100%;height:112px;border-bottom:1px solid var(--line)}
svg.histogram .in{fill:var(--accent)} svg.histogram .column{fill:transparent}
svg.histogram g:hover .column{fill:var(--track)}
figcaption{display:flex;justify-content:space-between;color:var(--soft);font-size:12px;margin-top:3px}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(310px,1fr));gap:12px}
.picture{display:grid;grid-template-columns:104px minmax(0,1fr);gap:10px 14px;background:var(--card);padding:12px;
border:1px solid var(--line);border-left:3px solid var(--line);border-radius:10px;box-shadow:var(--shadow)}
.picture.doubtful{border-left-color:var(--amber)}
.frame{width:104px;height:104px;border-radius:6px;background:var(--track);display:flex;align-items:center;
justify-content:center;overflow:hidden;color:var(--soft);font-size:12px;text-align:center}
.frame img{width:100%;height:100%;object-fit:contain}
.head{display:flex;gap:10px;align-items:baseline;justify-content:space-between} .head b{font-weight:620}
.score{font-size:13px;font-weight:640;color:var(--soft);white-space:nowrap} .doubtful .score{color:var(--doubt)}
.picture{font-size:13.5px;line-height:1.5;align-content:start} .picture>p,.picture>ul{grid-column:1/-1;margin:0}
.picture>p{color:var(--soft)} .told dl{display:grid;grid-template-columns:auto minmax(0,1fr);gap:1px 10px;
margin-top:5px}
.told dt{color:var(--soft)} .told dd{margin:0} .told i{font-style:normal;color:var(--soft);font-size:12px}
.told dd.doubtful,.told dd.doubtful i{color:var(--doubt)}
.picture>ul{list-style:none;padding:5px 10px;border-radius:6px;background:var(--ground);color:var(--doubt);
font-size:13px}
details.more{margin-top:12px} details.more .gallery{margin-top:12px}
details+details{border-top:1px solid var(--line);margin-top:8px;padding-top:8px}
summary{cursor:pointer} summary .count{display:inline-block;min-width:2.4em;color:var(--bad)}
.failures td{font-size:13px} .failures .file{width:50%;word-break:break-all} .failures table{margin:6px 0 4px}
footer dl{display:flex;flex-wrap:wrap;gap:4px 28px} footer dt{display:inline;margin-right:8px}
footer dd{display:inline;margin:0;color:var(--text)} footer{border-top:1px solid var(--line);padding-top:16px;
margin-top:34px}
@media (max-width:820px){.halves,.sides{grid-template-columns:minmax(0,1fr)}
.sides>div+div{border-left:0;padding-left:0;border-top:1px solid var(--line);margin-top:14px;padding-top:14px}}
@media (max-width:560px){header span{display:inline} header nav{margin:4px 0 0;width:100%}
.gallery{grid-template-columns:minmax(0,1fr)}
table.bars{display:block} colgroup{display:none} table.bars tr{display:grid;
grid-template-columns:minmax(0,1fr) auto auto;align-items:baseline;padding:5px 0;gap:3px 10px}
table.bars tr+tr{border:0} table.bars th{padding:0;max-width:none}
table.bars td,table.bars td:last-child{padding:0;display:block;margin:0}
table.bars td:nth-child(2){grid-row:2;grid-column:1/-1;width:auto;padding:0}
svg.line{height:10px} .picture{grid-template-columns:84px minmax(0,1fr);gap:10px 12px} .frame{width:84px;
height:84px}
.failures .file{width:auto;display:block}}
@media print{:root{color-scheme:light} body{background:#fff} header nav{display:none} .wrap{max-width:none;
padding:0}
.card,.tile,.picture{box-shadow:none;break-inside:avoid} h2{break-after:avoid}
svg rect,i[class^=d-]{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""

STYLE = Markup(asset("style.css") + _REPORT_STYLE)
