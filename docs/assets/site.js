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
  for (const box of document.querySelectorAll(".md-code__nav, .md-nav--secondary .md-nav")) box.setAttribute("role", "none");
  for (const list of document.querySelectorAll(".md-nav[aria-labelledby]")) {
    const label = document.getElementById(list.getAttribute("aria-labelledby"));
    if (label?.textContent.trim()) continue;
    list.removeAttribute("aria-labelledby");
    list.setAttribute("aria-label", list.parentElement.querySelector("a").textContent.trim());
  }
}

// An interval, [1.2, 3.4], stays on one line.
function join() {
  for (const cell of document.querySelectorAll(".md-typeset td"))
    if (!cell.children.length)
      cell.innerHTML = cell.innerHTML.replace(/\[[^\][]*\d, [^\][]*\]/g, '<span class="together">$&</span>');
}

// The theme tells when it has put in its buttons and the boxes around tables.
document$.subscribe(() => {
  name();
  join();
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, div.arithmatex, .md-typeset p:has(> img)"))
    reach.observe(box);
});
