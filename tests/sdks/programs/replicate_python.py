"""replicate for Python."""

import io

import replicate
from surfaces import DENIED, LIMITED, UPLOAD, surface


@surface
def plain():
    return "".join(str(piece) for piece in replicate.run("fake/writer", input={"prompt": "hi"}))


@surface
def prediction():
    made = replicate.predictions.create(model="fake/writer", input={"prompt": "hi"})
    made.reload()
    return [made.id, made.status]


@surface
def pages():
    return [found.id for found in replicate.predictions.list().results]


@surface
def more_pages():
    pages = replicate.paginate(replicate.predictions.list)
    return [len(page.results) for page in pages]


@surface
def stream():
    return "".join(str(event) for event in replicate.stream("fake/writer", input={"prompt": "hi"}))


@surface
def upload():
    content = io.BytesIO(UPLOAD)
    content.name = "notes.txt"
    return replicate.files.create(content).size


@surface
def denied():
    replicate.Client(api_token=DENIED).run("fake/writer", input={"prompt": "hi"})


@surface
def limited():
    replicate.Client(api_token=LIMITED).run("fake/writer", input={"prompt": "hi"})
