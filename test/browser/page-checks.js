/** What is asked of any page, as it is asked within the browser: plain JavaScript, put into each page before its own begins. */
window.checks = (() => {
  /** How far the page is wider than its window, in pixels. */
  const overflow = () => document.documentElement.scrollWidth - document.documentElement.clientWidth;

  const pixel = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  /** Any colour of CSS as [red, green, blue, alpha], 0 to 255 and 0 to 1. */
  function colourOf(text) {
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = text;
    pixel.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = pixel.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  }
  const over = (top, below) => [...[0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])), 1];
  /** WCAG 2, 0 to 1. */
  function luminance(colour) {
    const [r, g, b] = colour.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }
  function ancestors(element) {
    const all = [];
    for (let at = element; at !== null; at = at.parentElement) all.push(at);
    return all;
  }

  /** Text that is hard to read on what lies behind it: contrast below WCAG's 4.5, with a sample of its words. */
  function faintTexts() {
    const probe = document.createElement("i");
    probe.style.color = "Canvas";
    document.body.append(probe);
    const paper = colourOf(getComputedStyle(probe).color);
    probe.remove();
    const found = new Set();
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const words = texts.currentNode.textContent.trim();
      const element = texts.currentNode.parentElement;
      if (words === "" || element.closest("script,style") || !element.checkVisibility()) continue;
      const style = getComputedStyle(element);
      const ink = colourOf(element instanceof SVGElement ? style.fill : style.color);
      ink[3] *= ancestors(element).reduce((opacity, each) => opacity * Number(getComputedStyle(each).opacity), 1);
      const layers = ancestors(element).map((each) => colourOf(getComputedStyle(each).backgroundColor));
      const ground = layers.reduceRight((below, layer) => over(layer, below), paper);
      const [light, dark] = [luminance(over(ink, ground)), luminance(ground)].sort((a, b) => b - a);
      const contrast = (light + 0.05) / (dark + 0.05);
      if (contrast < 4.5) found.add(`${contrast.toFixed(2)} ${element.tagName.toLowerCase()}: ${words.slice(0, 40)}`);
    }
    return [...found];
  }

  /** Links within the page that lead nowhere, and names that stand for more than one place. */
  function brokenAnchors() {
    const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
    const twice = ids.filter((id, i) => ids.indexOf(id) !== i).map((id) => `twice: ${id}`);
    const targets = [...document.querySelectorAll("a[href^='#']")].map((link) => link.getAttribute("href").slice(1));
    return [...twice, ...targets.filter((id) => document.getElementById(id) === null).map((id) => `nowhere: ${id}`)];
  }

  /** Headings that skip a level, as h2 before h4. */
  function skippedHeadings() {
    const headings = [...document.querySelectorAll("h1,h2,h3,h4,h5,h6")];
    const levels = headings.map(({ tagName }) => Number(tagName[1]));
    return headings.flatMap(({ textContent }, i) =>
      levels[i] > (levels[i - 1] ?? 0) + 1 ? [`h${levels[i]} ${textContent}`] : [],
    );
  }

  /** What has the focus and whether one sees it; null for nothing. */
  function focused() {
    const element = document.activeElement;
    if (element === null || element === document.body) return null;
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    const isMarked = outlineStyle !== "none" && Number.parseFloat(outlineWidth) > 0;
    return { name: `${element.tagName.toLowerCase()} ${element.textContent.trim().slice(0, 60)}`, isMarked };
  }

  return { overflow, faintTexts, brokenAnchors, skippedHeadings, focused };
})();
