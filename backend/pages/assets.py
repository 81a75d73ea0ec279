"""The style and the script of the status page; they are in the page itself, so it needs nothing else.

Every two seconds the script asks for the part that changes, and changes only what differs, so what a person has
selected or opened stays. It stands still while a confirmation is open: nothing may move under the pointer then.
"""

from __future__ import annotations

from backend.pages.markup import Markup

STYLE = Markup("""
:root{color-scheme:light dark;--ground:#f5f6f8;--card:#fff;--line:#e3e6ea;--text:#1c2127;--soft:#616b77;
--track:#e6e9ee;--accent:#2f6fde;--good:#2e9e5b;--near:#4db6ac;--busy:#7aa7f0;--bad:#d2483f;--doubt:#b97509;
--shadow:0 1px 2px rgba(20,30,45,.06)}
@media (prefers-color-scheme:dark){:root{--ground:#14171b;--card:#1d2127;--line:#2c323a;--text:#e7eaee;--soft:#98a2ae;
--track:#2c323a;--accent:#6ea0f5;--good:#49b877;--near:#3f9d94;--busy:#456fb5;--bad:#ea7168;--doubt:#e0a03a;--shadow:none}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--text);overflow-wrap:anywhere;
font:15px/1.55 system-ui,-apple-system,"Segoe UI","PingFang SC","Microsoft YaHei","Noto Sans CJK SC",sans-serif;
font-variant-numeric:tabular-nums}
.wrap{max-width:1080px;margin:0 auto;padding:24px 20px 40px}
header{display:flex;align-items:baseline;gap:12px;margin-bottom:18px}
h1{font-size:22px;font-weight:650;margin:0}
header span{color:var(--soft)} header a{margin-left:auto;white-space:nowrap}
h2{font-size:13px;font-weight:600;color:var(--soft);margin:26px 0 10px}
h3{font-size:17px;font-weight:620;margin:0} h3 small{font-weight:400;color:var(--soft);font-size:13px;margin-left:8px}
a{color:var(--accent);text-decoration:none} a:hover{text-decoration:underline}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;box-shadow:var(--shadow);padding:16px 18px}
.card+.card{margin-top:14px}
.row{display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 12px} .row>:last-child{margin-left:auto}
.name{font-weight:620;font-size:16px} .soft{color:var(--soft);font-size:13px} p{margin:8px 0 0}
.pill{font-size:12.5px;font-weight:600;padding:1px 10px;border-radius:99px;border:1px solid;white-space:nowrap}
.ready{color:var(--good)} .loading,.restarting{color:var(--doubt)} .bad,.stopped{color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-top:14px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;box-shadow:var(--shadow);padding:12px 16px}
.tile dt,.facts dt{color:var(--soft);font-size:13px} .tile dd,.facts dd{margin:0}
.tile .big{font-size:23px;font-weight:640;line-height:1.35} dl{margin:0}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(104px,1fr));gap:10px 16px;margin-top:14px}
.facts dd{font-size:18px;font-weight:600} .doubt dd{color:var(--doubt)} .wrong dd{color:var(--bad)}
.zero dd{color:var(--soft);font-weight:400}
svg.bar{display:block;width:100%;height:10px;border-radius:5px;margin:12px 0 6px;background:var(--track)}
.s-delivered{fill:var(--good)} .s-returned{fill:var(--near)} .s-done{fill:var(--accent)} .s-running{fill:var(--busy)}
.s-failed{fill:var(--bad)}
.facts dt i{display:inline-block;width:8px;height:8px;border-radius:2px;margin-right:6px;background:var(--track)}
.k-delivered{background:var(--good)!important} .k-returned{background:var(--near)!important}
.k-done{background:var(--accent)!important} .k-running{background:var(--busy)!important}
.k-failed{background:var(--bad)!important}
.note{border-left:3px solid var(--accent);padding:2px 0 2px 12px} .note.warn{border-color:var(--bad)}
table{border-collapse:collapse;width:100%;margin-top:4px} td{padding:5px 16px 5px 0;vertical-align:top}
tr+tr td{border-top:1px solid var(--line)} td.num{text-align:right;font-weight:600;white-space:nowrap;width:1%}
td:last-child{padding-right:0} td a{margin-right:10px;white-space:nowrap}
h4{font-size:13px;font-weight:600;color:var(--soft);margin:16px 0 0}
form .soft{margin:10px 0} .facts+p{margin-top:14px} .card>p:first-child{margin-top:0}
.acts{display:flex;flex-wrap:wrap;gap:10px;align-items:flex-start;margin-top:14px}
button,summary.button{font:inherit;font-size:14px;color:var(--text);background:var(--card);border:1px solid var(--line);
border-radius:7px;padding:5px 14px;cursor:pointer;list-style:none;display:inline-block}
summary.button::-webkit-details-marker{display:none}
button:hover,summary.button:hover{border-color:var(--accent)} button.strong{color:var(--bad);border-color:var(--bad)}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.empty{text-align:center;padding:44px 18px} .empty p{color:var(--soft);max-width:32em;margin:10px auto 0}
.offline{background:var(--bad);color:#fff;border-radius:8px;padding:8px 14px;margin:0 0 14px} [hidden]{display:none}
footer{color:var(--soft);font-size:13px;margin-top:24px}
@media (max-width:560px){.wrap{padding:16px 12px 28px}.tiles{grid-template-columns:1fr 1fr;gap:10px}
.card,.tile{padding:12px 14px}.facts{grid-template-columns:1fr 1fr}.tile .big{font-size:19px}header span{display:none}
table,tbody,tr{display:block}td{display:inline;padding:0}td.num{margin-right:8px}
td:last-child{display:block}tr{padding:6px 0}tr+tr{border-top:1px solid var(--line)}tr+tr td{border:0}}
""")

SCRIPT = Markup("""
const live=document.getElementById('live'),offline=document.getElementById('offline'),period=2000;
const url=new URL(live.dataset.url,location.href);url.username=url.password='';url.hash='';
const same=(a,b)=>a.nodeName===b.nodeName&&(a.nodeType!==1||a.getAttribute('data-key')===b.getAttribute('data-key'));
function morph(a,b){
  if(a.nodeType!==1){if(a.nodeValue!==b.nodeValue)a.nodeValue=b.nodeValue;return}
  for(const {name,value} of [...b.attributes])if(a.getAttribute(name)!==value)a.setAttribute(name,value);
  for(const {name} of [...a.attributes])if(!b.hasAttribute(name))a.removeAttribute(name);
  const want=[...b.childNodes];
  want.forEach((node,i)=>{
    const have=a.childNodes[i];
    if(!have)a.append(node);else if(same(have,node))morph(have,node);else have.replaceWith(node);
  });
  while(a.childNodes.length>want.length)a.lastChild.remove();
}
async function refresh(){
  if(!document.hidden&&!live.querySelector('details[open]')){
    try{
      const reply=await fetch(url,{cache:'no-store',signal:AbortSignal.timeout(8000)});
      if(!reply.ok)throw new Error(reply.status);
      const fresh=new DOMParser().parseFromString(await reply.text(),'text/html');
      const main=fresh.getElementById('live');
      if(!main)throw new Error('another page');
      if(!live.querySelector('details[open]')){morph(live,main);document.title=main.dataset.title}
      offline.hidden=true;
    }catch{offline.hidden=false}
  }
  setTimeout(refresh,period);
}
setTimeout(refresh,period);
""")
