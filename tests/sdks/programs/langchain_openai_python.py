"""langchain-openai."""

from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from surfaces import DENIED, LIMITED, surface

chat = ChatOpenAI(model="m", max_retries=0)


@surface
def plain():
    return chat.invoke("hi").content


@surface
def stream():
    return "".join(chunk.content for chunk in chat.stream("hi"))


@surface
def embeddings():
    # without tiktoken, which would fetch its tables from the network
    made = OpenAIEmbeddings(model="m", check_embedding_ctx_length=False)
    return made.embed_query("a")


@surface
def denied():
    ChatOpenAI(model="m", max_retries=0, api_key=DENIED).invoke("hi")


@surface
def limited():
    ChatOpenAI(model="m", max_retries=0, api_key=LIMITED).invoke("hi")
