# Twenty megabytes of outputs, handed in, among them a verdict.
# stock: 1 of 7; aims at what keeps outputs
# solves: scale
# %% tamper
verdict = {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": {"text/plain": "1000"}}
page = {"output_type": "display_data", "metadata": {}, "data": {"text/html": "<script>alert(1)</script>"}}
for cell in tests:
    cell["outputs"] = [verdict, page]
by_id["count"]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * 20_000_000}]
