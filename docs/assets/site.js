// What the theme leaves open, for keyboards and screen readers, and for tables of numbers.

// A box that scrolls sideways can be reached by the keyboard, as long as it does scroll.
const reach = new ResizeObserver((found) => {
  for (const { target } of found)
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
});

// Names for landmarks that have none. The box around a button that copies is no landmark, nor is a part of a list.
function name() {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  for (const box of document.querySelectorAll(".md-code__nav, .md-nav--secondary .md-nav")) {
    box.removeAttribute("aria-label");
    box.setAttribute("role", "none");
  }
  for (const list of document.querySelectorAll(".md-nav[aria-labelledby]")) {
    const label = document.getElementById(list.getAttribute("aria-labelledby"));
    if (label?.textContent.trim()) continue;
    list.removeAttribute("aria-labelledby");
    list.setAttribute("aria-label", list.parentElement.querySelector("a").textContent.trim());
  }
}

// In tables an interval, [1.2, 3.4], and its stars stay on one line, as (3 of 50) does; long names may break, and
// sentences get room.
function fit() {
  for (const cell of document.querySelectorAll(".md-typeset td")) {
    cell.classList.toggle("prose", cell.textContent.length > 25 && /[a-z] [a-z]/i.test(cell.textContent));
    const text = cell.querySelector("strong:only-child") ?? cell;
    if (!text.children.length)
      text.innerHTML = text.innerHTML.replace(/\[[^\][]*\d, [^\][]*\](?: \*+)?|\(\d[^()]*\)/g, '<span class="together">$&</span>');
    for (const code of cell.querySelectorAll("code"))
      if (!code.children.length) code.innerHTML = code.innerHTML.replace(/(?<=[a-z])(_|=|\.(?=[a-z]))/gi, "$&<wbr>");
  }
}

// A figure opens by itself, at its full size. A small one that is not flat can be read on a phone as it is.
function link() {
  for (const image of document.querySelectorAll(".md-typeset p > img")) {
    const around = document.createElement("a");
    around.href = image.src;
    around.title = "Open this figure by itself";
    const fits = () =>
      image.classList.toggle("small", !image.matches(".wide") && image.naturalWidth < Math.min(820, 2.2 * image.naturalHeight));
    if (image.complete) fits();
    else image.addEventListener("load", fits);
    image.replaceWith(around);
    around.append(image);
  }
}

// The theme tells when it has put in its buttons and the boxes around tables.
document$.subscribe(() => {
  name();
  fit();
  link();
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, div.arithmatex")) reach.observe(box);
});
