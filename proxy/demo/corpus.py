"""The few paragraphs that the demo upstream's text model has read: all it knows of the world."""

_TEXT = """
The harbour is quiet in the morning. A small boat leaves the harbour and the keeper of the gate
writes its name in a book. The sea is calm, and the light of the tower is still on. When the boat
returns, the keeper looks at the book again. The keeper of the gate has a simple rule. Every
letter that leaves the town goes through the gate, and every letter is read before it goes. If a
letter holds a secret, the keeper covers the secret with black ink. Then the letter goes out to
the sea.

Once upon a time there was a town by the sea. The people of the town wrote many letters, and the
letters went out in small boats. One day a letter was lost, and the people asked the keeper for
help. The keeper opened the book and found the name of the boat. This is a test of the gate. A
test is a small letter that nobody needs, and it goes the same way as every other letter. If the
test comes back, the way is open. If it does not come back, the keeper looks for the place where
it was lost.

A good gate is open for the people who have a key, and closed for all the others. A key is not a
name, and a name is not a key. The keeper never writes a key in the book. The book holds only the
name, the day and the way of the letter. There is a tower at the end of the harbour. At night the
light of the tower shows the way to the boats. The light is small, but it can be seen from far
away. Without the light, no boat would find the harbour in the dark.

Words are like boats. They leave one at a time, in order, and nobody can call them back. A careful
keeper counts them, looks at each of them, and lets them go. A sentence ends when the last boat
has left the harbour. The answer to a question is often short. A long answer is not always a good
answer, but a clear answer is always welcome. The people of the town ask many questions in the
morning. In the evening they read the answers and write new letters.

The wind comes from the west and the rain comes with it. In the rain the boats stay in the harbour
and the people stay in their houses. They read, they write, and they wait for the sun. After the
rain the sea is green and the town is new. In the market you can find bread, fish, apples and ink.
The best ink comes from the house by the bridge. It is black, it is cheap, and it never fades in
the sun. A good letter needs good ink, good paper and a little time.

Hello, said the keeper, and what is your name? The child said that names are for books, and that
the sea has no name at all. The keeper laughed and opened the gate. The child went down to the
boats and counted them, one, two, three, four. To write a letter, take a sheet of paper and think
of a friend. Say what you have seen, ask one question, and tell the truth. Do not write a secret
that you would not tell the sea. Then fold the paper, write the name, and bring it to the gate.

The old bridge is made of stone and the new bridge is made of wood. Many people go over the bridge
in the morning, and few of them look down at the river. The river is slow and deep. It brings
leaves, boats and stories from the hills to the sea. A machine that writes has read many books,
but it has never seen the sea. It knows which word follows which word, and it says what was often
said before. That is why its letters are easy to read and hard to trust. The keeper reads them
like all the others.

The first letter of the day is for the baker, and the last letter is for the teacher. Between them
there are letters for everyone. Some are long and some are short, some are happy and some are sad.
The gate treats them all the same. If you are lost, go down to the water and follow the light. The
light does not move, and the way to it is always open for a friend. There you can rest, drink a
cup of tea and tell your story. In the morning a boat will bring you home.
"""

_PARTS = """
able age al an ance ar as at ation be ble ca ch co com con de di ed el em en ence ent er es est ex
fi for ful ge he ia ic id ies il im in ing ion is ist ity ive iz la le less li lo ly ma me ment mi
mo na ne ness ni no nt ol on or ou ous out over pa pe ph pi po pr pre pro qu ra re ri ro ru sa se
sh si sp st str sub super ta te ter th ti tion to tr tu ty ul um un under up ur us ve vi za
"""

#: The model learns which word follows which from nothing but these.
DOCUMENTS: tuple[str, ...] = tuple(" ".join(part.split()) for part in _TEXT.split("\n\n"))

#: Parts of words, for text that the documents do not hold.
FRAGMENTS: tuple[str, ...] = tuple(_PARTS.split())
