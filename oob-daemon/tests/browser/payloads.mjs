// Texts that would do something if a page took them for more than text. Each calls `ran()` if it runs.

const CODE = ["ran(1)", "window.ran(2)", "top.ran(3)", "alert(4)", "import('/assets/ran.js')"];

const AROUND = [
  (code) => `<script>${code}</script>`,
  (code) => `<ScRiPt>${code}</sCrIpT>`,
  (code) => `<script type=module>${code}</script>`,
  (code) => `"><script>${code}</script>`,
  (code) => `'><img src=x onerror=${code}>`,
  (code) => `<img src=x onerror="${code}">`,
  (code) => `<img src=x onerror=${code}//`,
  (code) => `<svg onload=${code}>`,
  (code) => `<svg><script>${code}</script></svg>`,
  (code) => `<svg><animate onbegin=${code} attributeName=x dur=1s>`,
  (code) => `<math><mtext></mtext><script>${code}</script></math>`,
  (code) => `<iframe srcdoc="<script>parent.${code}</script>"></iframe>`,
  (code) => `<iframe src="javascript:${code}"></iframe>`,
  (code) => `<a href="javascript:${code}" autofocus onfocus=${code}>x</a>`,
  (code) => `<input autofocus onfocus=${code}>`,
  (code) => `<details open ontoggle=${code}><summary>x</summary></details>`,
  (code) => `<video><source onerror=${code}></video>`,
  (code) => `<audio src=x onerror=${code}>`,
  (code) => `<body onload=${code}>`,
  (code) => `<marquee onstart=${code}>x</marquee>`,
  (code) => `<object data="javascript:${code}"></object>`,
  (code) => `<embed src="javascript:${code}">`,
  (code) => `<form action="javascript:${code}"><button autofocus>x</button></form>`,
  (code) => `<base href="javascript:${code}//">`,
  (code) => `<meta http-equiv=refresh content="0;url=javascript:${code}">`,
  (code) => `<link rel=stylesheet href="javascript:${code}">`,
  (code) => `<style>@import 'javascript:${code}';</style>`,
  (code) => `<template shadowrootmode=open><script>${code}</script></template>`,
  (code) => `<oob-talk onclick=${code}></oob-talk>`,
  (code) => `</textarea><script>${code}</script>`,
  (code) => `</title><script>${code}</script>`,
  (code) => `<!--><script>${code}</script-->`,
  (code) => `<noscript><p title="</noscript><script>${code}</script>">`,
  (code) => `\${${code}}`,
  (code) => `{{constructor.constructor('${code}')()}}`,
  (code) => `javascript:${code}`,
  (code) => `&lt;script&gt;${code}&lt;/script&gt;`,
  (code) => `<x style="background:url(javascript:${code})">`,
  (code) => `<img src="https://192.0.2.1/x.png" onload=${code} onerror=${code}>`,
  (code) => `data:text/html,<script>${code}</script>`,
];

/** Text that moves a cursor, turns a line around or hides; and what must be shown of it. */
export const HIDING = [
  ["\u001b[2Jclear\u001b]0;title\u0007", "\ufffd[2Jclear\ufffd]0;title\ufffd"],
  ["pay \u202e001$\u202c now", "pay \ufffd001$\ufffd now"],
  ["\u2066isolated\u2069 \u2067x\u2068", "\ufffdisolated\ufffd \ufffdx\ufffd"],
  ["zero\u200bwidth\ufeff \u2060joined", "zero\ufffdwidth\ufffd \ufffdjoined"],
  ["\u200eleft\u200fright\u061carabic", "\ufffdleft\ufffdright\ufffdarabic"],
  ["line\u2028separator\u2029paragraph", "line\ufffdseparator\ufffdparagraph"],
  ["tags\u{e0041}\u{e007f}", "tags\ufffd\ufffd"],
  ["back\bspace\rreturn\u0085next\u009bcsi", "back\ufffdspace\ufffdreturn\ufffdnext\ufffdcsi"],
  ["tab\there", "tab here"],
  ["annotated\ufff9a\ufffab\ufffb", "annotated\ufffda\ufffdb\ufffd"],
  ["delete\u007f", "delete\ufffd"],
  ["two\nlines", "two\nlines"],
  ["Zoë 王 Дана 👩‍🚒 e\u0301 שלום مرحبا", "Zoë 王 Дана 👩‍🚒 e\u0301 שלום مرحبا"],
];

/** Texts that are shown as they are. */
export const MARKUP = AROUND.flatMap((around) => CODE.map(around));
