"use strict";
for (const block of document.querySelectorAll("pre.command")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  const select = () => {
    const range = document.createRange();
    range.selectNodeContents(block.querySelector("code"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  };
  const say = (text) => {
    button.textContent = text;
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(block.querySelector("code").textContent);
      say("Copied");
    } catch {
      // Some browsers give a page out of a file no clipboard: the older way, or by hand.
      select();
      say(document.execCommand("copy") ? "Copied" : "Selected");
    }
  });
  block.append(button);
}
