// What a test wants to know of a rendered page.
() => {
  const all = (selector) => [...document.querySelectorAll(selector)];

  // The texts whose contrast with what lies behind them is below 4.5 to 1 (WCAG AA).
  const parse = (c) => (c.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const channel = (v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const behind = (e) => {
    const layers = [];
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor), a = c.length > 3 ? c[3] : 1;
      if (a > 0) layers.push([c, a]);
      if (a === 1) break;
    }
    const over = (b, [c, a]) => b.map((v, i) => v * (1 - a) + c[i] * a);
    return layers.reverse().reduce(over, [255, 255, 255]);
  };
  const ratio = (e) => {
    const a = light(parse(getComputedStyle(e).color)), b = light(behind(e));
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const own = (e) =>
    [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join(' ').trim();
  const shown = (e) => e.getClientRects().length && !e.closest('mjx-container, .headerlink, svg');

  return {
    faint: all('article *')
      .filter((e) => own(e) && shown(e) && ratio(e) < 4.5)
      .map((e) => `${own(e).slice(0, 40)}: ${ratio(e).toFixed(2)}`),
    formulas: all('.math').length,
    drawn: all('.math mjx-container svg').length,
    cut: all('article span.math').filter((e) => {
      const formula = e.querySelector('mjx-container');
      return formula && formula.getBoundingClientRect().right > e.getBoundingClientRect().right + 1.5;
    }).map((e) => e.textContent),
    broken: all('[data-mjx-error], mjx-merror').map((e) => e.textContent),
    text: document.querySelector('article').innerText,
    width: document.documentElement.scrollWidth,
    pictures: all('article img').map((i) => ({ alt: i.alt, loaded: i.complete && i.naturalWidth > 0 })),
  };
}
