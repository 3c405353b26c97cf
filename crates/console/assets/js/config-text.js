/*! gridwatch console, Apache-2.0; built from crates/console/web, do not edit */
"use strict";(()=>{function a(n){return n.split(`
`).length}function g(n,e){let r=0;for(let l=1;l<e;l+=1){let o=n.indexOf(`
`,r);if(o<0)return[n.length,n.length];r=o+1}let i=n.indexOf(`
`,r);return[r,i<0?n.length:i]}function c(n){let e=n.querySelector(".numbered textarea"),r=n.querySelector(".numbered .numbers");if(!e||!r)return;let i=0,l=()=>{let t=a(e.value);t!==i&&(i=t,e.rows=Math.min(t+1,3e3),r.textContent=Array.from({length:t},(u,s)=>`${s+1}
`).join(""))};e.addEventListener("input",l),l();let o=!1;e.addEventListener("input",()=>{o=!0}),e.form?.addEventListener("submit",()=>{o=!1}),window.addEventListener("beforeunload",t=>{o&&t.preventDefault()}),n.addEventListener("click",t=>{let u=t.target instanceof Element?t.target.closest("[data-line]"):null;if(!u)return;t.preventDefault();let[s,d]=g(e.value,Number(u.dataset.line));e.focus({preventScroll:!0}),e.setSelectionRange(s,d);let f=a(e.value.slice(0,s))-1,m=e.clientHeight/Math.max(e.rows,1);window.scrollTo({top:e.getBoundingClientRect().top+window.scrollY+f*m-window.innerHeight/3})})}c(document);})();
