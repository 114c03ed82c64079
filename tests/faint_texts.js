// The texts of the article whose contrast with what lies behind them is below 4.5 to 1 (WCAG AA).
() => {
  const parse = c => (c.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const channel = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const behind = e => {
    const layers = [];
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor), a = c.length > 3 ? c[3] : 1;
      if (a > 0) layers.push([c, a]);
      if (a === 1) break;
    }
    return layers.reverse().reduce((b, [c, a]) => b.map((v, i) => v * (1 - a) + c[i] * a), [255, 255, 255]);
  };
  const faint = new Set();
  for (const e of document.querySelectorAll('article *')) {
    const own = [...e.childNodes].filter(n => n.nodeType === 3 && n.textContent.trim()).map(n => n.textContent.trim());
    if (!own.length || !e.getClientRects().length || e.closest('mjx-container, .headerlink, svg')) continue;
    const ground = behind(e), ink = parse(getComputedStyle(e).color), a = light(ink), b = light(ground);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.add(e.tagName + '.' + e.className + ' ' + own[0].slice(0, 30) + ' ' + ratio.toFixed(2));
  }
  return [...faint].slice(0, 20);
}
